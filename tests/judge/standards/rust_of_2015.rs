use std::io::*;
fn f() -> Result<()> { let async = 1; let mut s = String::new(); try!(stdin().read_to_string(&mut s));
let n: i64 = s.split_whitespace().map(|x| x.parse::<i64>().unwrap()).sum(); println!("{}", n * async); Ok(()) }
fn main() { f().unwrap() }
