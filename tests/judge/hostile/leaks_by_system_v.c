/* due: Accepted */
/* Semaphores, message queues and segments of System V, and POSIX queues, outlive the process that made them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    int a, b, found = 0;
    scanf("%d %d", &a, &b);
    if (a == 1) {
        semget(4242, 1, IPC_CREAT | 0666);
        msgget(4242, IPC_CREAT | 0666);
        shmget(4242, 4096, IPC_CREAT | 0666);
        syscall(SYS_mq_open, "left", O_CREAT | O_RDWR, 0666, 0);
    } else {
        found += semget(4242, 1, 0) >= 0;
        found += msgget(4242, 0) >= 0;
        found += shmget(4242, 4096, 0) >= 0;
        found += syscall(SYS_mq_open, "left", O_RDWR, 0666, 0) >= 0;
    }
    printf("%d\n", a + b + found);
    return 0;
}
