// due: CompileError
asm(".rept 2000000000\n.quad 0\n.endr");
int main(void) {}
