// due: RuntimeError TimeLimitExceeded
#include <unistd.h>
int main(void) { alarm(60); for (int i = 0; i < 12; i++) fork(); for (;;) pause(); }
