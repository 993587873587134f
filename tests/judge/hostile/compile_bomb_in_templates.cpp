// due: CompileError
template <int n> struct A { A<n - 1> a; A<n - 2> b; };
template <> struct A<0> {};
template <> struct A<1> {};
template <int n, int m> struct B { B<n - 1, 2 * m> x; B<n - 1, 2 * m + 1> y; };
template <int m> struct B<0, m> {};
B<22, 1> b;
int main() {}
