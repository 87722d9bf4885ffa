/* The limit of running a program RUNS times, JOBS at a time: `spawn_limit RUNS JOBS PROGRAM`. Each of JOBS processes
 * starts the program and waits for it, again and again, and does nothing else. */

#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int count, char **words) {
    if (count != 4) return 2;
    int runs = atoi(words[1]), jobs = atoi(words[2]);
    for (int job = 0; job < jobs; job++) {
        if (fork() != 0) continue;
        char *arguments[] = {words[3], "1", NULL};
        for (int run = job; run < runs; run += jobs) {
            pid_t pid;
            if (posix_spawn(&pid, words[3], NULL, NULL, arguments, environ) != 0) _exit(1);
            waitpid(pid, NULL, 0);
        }
        _exit(0);
    }
    while (wait(NULL) > 0) {}
    return 0;
}
