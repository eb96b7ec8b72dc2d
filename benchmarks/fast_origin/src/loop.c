/* One thread's loop: epoll, a heap of timers, and for the first thread the listeners.
 * What must not live here: HTTP. */
#define _GNU_SOURCE
#include "origin.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256

static int listeners[2] = {-1, -1}; /* http, https */

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NANO + (uint64_t)t.tv_nsec;
}

/* ---- timers: a binary heap; each connection knows its place ---- */

static void place(struct thread *t, int at, struct conn *c)
{
    t->heap[at] = c;
    c->timer = at;
}

static void sift(struct thread *t, int at, struct conn *c)
{
    while (at > 0 && t->heap[(at - 1) / 2]->due > c->due) {
        place(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (int child = 2 * at + 1; child < t->heap_size; child = 2 * at + 1) {
        if (child + 1 < t->heap_size && t->heap[child + 1]->due < t->heap[child]->due)
            child++;
        if (t->heap[child]->due >= c->due)
            break;
        place(t, at, t->heap[child]);
        at = child;
    }
    place(t, at, c);
}

void loop_disarm(struct conn *c)
{
    struct thread *t = c->thread;
    int at = c->timer;
    if (at < 0)
        return;
    c->timer = -1;
    struct conn *last = t->heap[--t->heap_size];
    if (last != c)
        sift(t, at, last);
}

void loop_arm(struct conn *c)
{
    struct thread *t = c->thread;
    uint64_t due = c->answer_at;
    if (c->write_at && (!due || c->write_at < due))
        due = c->write_at;
    if (c->read_at && (!due || c->read_at < due))
        due = c->read_at;
    loop_disarm(c);
    if (!due)
        return;
    c->due = due;
    if (t->heap_size == t->heap_room) {
        t->heap_room = t->heap_room ? 2 * t->heap_room : 256;
        t->heap = realloc(t->heap, (size_t)t->heap_room * sizeof *t->heap);
    }
    sift(t, t->heap_size++, c);
}

static int pause_ms(struct thread *t)
{
    if (!t->heap_size)
        return -1;
    uint64_t now = now_ns(), due = t->heap[0]->due;
    return due <= now ? 0 : (int)((due - now + 999999) / 1000000);
}

static void fire(struct thread *t)
{
    uint64_t now = now_ns();
    while (t->heap_size && t->heap[0]->due <= now) {
        struct conn *c = t->heap[0];
        loop_disarm(c);
        conn_timer(c, now);
    }
}

/* ---- connections ---- */

static uint32_t events_of(bool reading, bool writing)
{
    return (reading ? EPOLLIN : 0u) | (writing ? EPOLLOUT : 0u);
}

void loop_watch(struct conn *c, bool reading, bool writing)
{
    if (c->dead || (c->reading == reading && c->writing == writing))
        return;
    c->reading = reading;
    c->writing = writing;
    struct epoll_event e = {.events = events_of(reading, writing), .data.ptr = c};
    epoll_ctl(c->thread->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void begin(int fd, bool tls)
{
    static int next;
    struct conn *c = calloc(1, sizeof *c);
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c->fd = fd;
    c->timer = -1;
    c->thread = &threads[next++ % thread_count];
    c->reading = true;
    c->tls = tls ? tls_new(c) : NULL;
    uint64_t rtt = __atomic_load_n(&rtt_ns, __ATOMIC_RELAXED);
    /* TCP's own round trip, and that of TLS 1.3: the client has sent, the origin does not look. */
    c->idle_since = now_ns() + rtt * (tls ? 2 : 1);
    c->read_at = rtt ? c->idle_since : 0;
    count_add(N_CONNECTIONS, 1);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(c->thread->epoll, EPOLL_CTL_ADD, fd, &e); /* from here on it is the thread's */
}

static void accept_all(int listener, bool tls)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        begin(fd, tls);
}

static void bury(struct thread *t)
{
    while (t->dead) {
        struct conn *c = t->dead;
        t->dead = c->next_dead;
        free(c->in.data);
        free(c->out.data);
        free(c->keep.data);
        free(c);
    }
}

void loop_listen(int fd, bool tls)
{
    listeners[tls] = fd;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listeners[tls]};
    epoll_ctl(threads[0].epoll, EPOLL_CTL_ADD, fd, &e);
}

void *loop_run(void *which)
{
    struct thread *t = which;
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(t->epoll, events, EVENTS, pause_ms(t));
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            uint32_t e = events[i].events;
            if (what == &listeners[0] || what == &listeners[1]) {
                accept_all(*(int *)what, what == &listeners[1]);
                continue;
            }
            struct conn *c = what;
            if (c->dead)
                continue;
            if (e & (EPOLLERR | EPOLLHUP) && !(e & EPOLLIN))
                conn_close(c);
            else
                conn_ready(c, e & EPOLLIN, e & EPOLLOUT);
        }
        if (t->heap_size)
            fire(t);
        bury(t);
    }
    return NULL;
}
