use std::io::*;
fn main() { let mut s = String::new(); stdin().read_to_string(&mut s).unwrap();
let n: i64 = s.split_whitespace().map(|x| x.parse::<i64>().unwrap()).sum(); println!("{}", n); }
