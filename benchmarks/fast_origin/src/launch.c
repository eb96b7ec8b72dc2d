/* launch REPORT PROGRAM ARGUMENT... : run a program and write what it used to REPORT as JSON.
 * A child's peak memory never shows less than its parent's at the fork; this parent is small.
 * hwm_kib is VmHWM of the program itself, polled; max_rss_kib is the biggest of it and of the
 * processes that it waited for, as the kernel counts them. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long peak_kib(const char *path)
{
    char line[256];
    long kib = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    fclose(f);
    return kib;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static pid_t start(char **words)
{
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(words[0], words);
        fprintf(stderr, "%s: %s\n", words[0], strerror(errno));
        _exit(127);
    }
    return child;
}

int main(int count, char **words)
{
    char path[64];
    struct rusage used;
    int status;
    long hwm = 0;
    if (count < 3)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    double began = now();
    pid_t child = start(words + 2);
    if (child < 0)
        return perror("fork"), 1;
    snprintf(path, sizeof path, "/proc/%d/status", child);
    sigprocmask(SIG_BLOCK, &wanted, NULL); /* after the fork: a mask is inherited */
    pid_t ended;
    while ((ended = wait4(child, &status, WNOHANG, &used)) == 0) {
        long seen = peak_kib(path);
        hwm = seen > hwm ? seen : hwm;
        struct timespec pause = {0, 10 * 1000 * 1000};
        sigtimedwait(&wanted, NULL, &pause); /* wakes at the child's end */
    }
    double wall = now() - began;
    if (ended < 0)
        return perror("wait"), 1;
    FILE *report = fopen(words[1], "w");
    if (!report)
        return perror(words[1]), 1;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fprintf(report,
            "{\"wall\": %.6f, \"user\": %ld.%06ld, \"system\": %ld.%06ld, \"max_rss_kib\": %ld, "
            "\"hwm_kib\": %ld, \"status\": %d}\n",
            wall, (long)used.ru_utime.tv_sec, (long)used.ru_utime.tv_usec,
            (long)used.ru_stime.tv_sec, (long)used.ru_stime.tv_usec, used.ru_maxrss, hwm, code);
    return fclose(report) ? 1 : 0;
}
