/* origin [--threads N] [--rtt-ms N] [--bandwidth BYTES_PER_SECOND] [--no-check]
 *        [--tls CERTIFICATE KEY]
 * Prints its ports as JSON and serves on 127.0.0.1 until standard input is closed. */
#define _GNU_SOURCE
#include "origin.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_THREADS 64

struct thread *threads;
int thread_count = 1;

static int listen_on_loopback(unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, size) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&a, &size)) {
        perror("listen on loopback");
        exit(1);
    }
    *port = ntohs(a.sin_port);
    return fd;
}

static void make_threads(void)
{
    threads = calloc((size_t)thread_count, sizeof *threads);
    for (int i = 0; i < thread_count; i++) {
        threads[i].index = i;
        threads[i].epoll = epoll_create1(EPOLL_CLOEXEC);
        threads[i].cipher = malloc(SCRATCH_SIZE);
        /* A read that the kernel drops names up to 1 MiB of it; its pages are never touched. */
        threads[i].scratch = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (threads[i].epoll < 0 || threads[i].scratch == MAP_FAILED) {
            perror("a thread's memory");
            exit(1);
        }
    }
}

int main(int count, char **words)
{
    const char *certificate = NULL, *key = NULL;
    unsigned http, https = 0;
    for (int i = 1; i < count; i++) {
        bool more = i + 1 < count;
        if (!strcmp(words[i], "--threads") && more)
            thread_count = atoi(words[++i]);
        else if (!strcmp(words[i], "--rtt-ms") && more)
            rtt_ns = strtoull(words[++i], NULL, 10) * 1000000;
        else if (!strcmp(words[i], "--bandwidth") && more)
            bandwidth = strtoull(words[++i], NULL, 10);
        else if (!strcmp(words[i], "--no-check"))
            check_sums = false;
        else if (!strcmp(words[i], "--tls") && i + 2 < count)
            certificate = words[++i], key = words[++i];
        else
            return fprintf(stderr, "not an option: %s\n", words[i]), 2;
    }
    if (thread_count < 1 || thread_count > MAX_THREADS)
        return fprintf(stderr, "1 to %d threads\n", MAX_THREADS), 2;
    signal(SIGPIPE, SIG_IGN);
    crc_setup();
    content_setup();
    make_threads();
    loop_listen(listen_on_loopback(&http), false);
    if (certificate) {
        if (!tls_setup(certificate, key))
            return 1;
        loop_listen(listen_on_loopback(&https), true);
    }
    printf("{\"http\": %u, \"https\": %u}\n", http, https);
    fflush(stdout);
    for (int i = 0; i < thread_count; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, loop_run, &threads[i]))
            return perror("a thread"), 1;
    }
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}
