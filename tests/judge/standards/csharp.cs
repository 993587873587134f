using System;
using System.Linq;
using System.Numerics;
class P { static void Main() { var a = Console.ReadLine().Split().Select(long.Parse).ToArray();
Console.WriteLine((BigInteger)a[0] + a[1]); } }
