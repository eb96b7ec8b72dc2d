/* One connection: a head, a body, then - a round trip later - the answer. One request at a time.
 * What must not live here: what is answered, epoll. */
#define _GNU_SOURCE
#include "origin.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOVE_SIZE (1024 * 1024)   /* one sendfile, or one read that the kernel drops */
#define TLS_PIECE (128 * 1024)
#define READS_IN_A_ROW 4          /* then the others have their turn */
#define LEAST_MOVE (16 * 1024)    /* a smaller piece is not worth a wake-up */

size_t conn_allowance(struct bucket *b, uint64_t now, uint64_t wanted, uint64_t *at)
{
    uint64_t rate = __atomic_load_n(&bandwidth, __ATOMIC_RELAXED);
    *at = 0;
    if (!rate)
        return wanted;
    /* 4 ms hide the clock's steps of 1 ms; a connection that was idle starts with that much. */
    double most = (double)rate * 0.004 > 65536 ? (double)rate * 0.004 : 65536;
    double gained = b->at ? (double)(now - b->at) * (double)rate / 1e9 : most;
    b->tokens = b->tokens + gained < most ? b->tokens + gained : most;
    b->at = now;
    double least = wanted < LEAST_MOVE ? (double)wanted : LEAST_MOVE;
    if (b->tokens >= least)
        return (double)wanted < b->tokens ? wanted : (size_t)b->tokens;
    *at = now + (uint64_t)((most / 2 - b->tokens) * 1e9 / (double)rate) + 1;
    return 0;
}

static uint64_t rtt(void)
{
    return __atomic_load_n(&rtt_ns, __ATOMIC_RELAXED);
}

static void start_write(struct conn *c);

/* The request is whole: the answer is made now and goes out one round trip later. */
static void finish(struct conn *c)
{
    c->out.size = c->out_done = 0; /* a 100 that came too late is not sent */
    answer(c);
    c->last = c->request.close;
    c->control = c->request.path.size > 1 && c->request.path.data[1] == '_';
    c->in.size = 0; /* the request's spans are over */
    c->keep.size = 0;
    if (rtt() && !c->control) {
        c->state = WAIT;
        c->answer_at = now_ns() + rtt();
        loop_arm(c);
    } else {
        start_write(c);
    }
}

static void take_head(struct conn *c)
{
    struct request *r = &c->request;
    if (!head_parse(c->in.data, c->in.size, r)) {
        problem("no request that HTTP knows");
        conn_close(c);
        return;
    }
    bool keep = r->method == POST;
    body_start(&c->body, r, check_sums, keep ? &c->keep : NULL);
    if (c->body.done) {
        finish(c);
        return;
    }
    c->state = READ_BODY;
    if (r->expect) {
        count_add(N_CONTINUE, 1);
        text_say(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
        if (rtt()) {
            c->answer_at = now_ns() + rtt();
            loop_arm(c);
        } else {
            conn_ready(c, false, true);
        }
    }
}

/* How many of the bytes end the head; the head's end may begin in what is there already. */
static size_t head_bytes(struct conn *c, const char *data, size_t size)
{
    size_t before = c->in.size;
    text_add(&c->in, data, size);
    size_t from = before > 3 ? before - 3 : 0;
    const char *end = memmem(c->in.data + from, c->in.size - from, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head = (size_t)(end - c->in.data) + 4;
    c->in.size = head;
    return head - before;
}

void conn_feed(struct conn *c, const char *data, size_t size)
{
    while (size && !c->dead) {
        size_t used;
        if (c->state == READ_HEAD) {
            used = head_bytes(c, data, size);
            if (!used) {
                if (c->in.size > MAX_HEAD)
                    conn_close(c);
                return;
            }
            take_head(c);
        } else if (c->state == READ_BODY) {
            used = body_take(&c->body, data, size);
            if (c->body.bad) {
                problem("chunks that are none");
                conn_close(c);
                return;
            }
            if (c->body.done)
                finish(c);
        } else {
            problem("%zu bytes before the answer was there", size);
            conn_close(c);
            return;
        }
        data += used;
        size -= used;
    }
}

static bool in_body(const struct conn *c)
{
    return c->state == READ_BODY;
}

/* One recv; false where there is nothing more for now. */
static bool read_plain(struct conn *c, uint64_t now)
{
    bool drop = in_body(c) && c->body.raw;
    size_t room = SCRATCH_SIZE;
    if (drop)
        room = c->body.left < MOVE_SIZE ? (size_t)c->body.left : MOVE_SIZE;
    if (in_body(c)) {
        room = conn_allowance(&c->up, now, room, &c->read_at);
        if (!room) {
            loop_watch(c, false, c->writing);
            loop_arm(c);
            return false;
        }
    }
    ssize_t got = recv(c->fd, c->thread->scratch, room, drop ? MSG_TRUNC : 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            if (c->state == READ_BODY)
                problem("closed %llu bytes short", (unsigned long long)c->body.left);
            conn_close(c);
        }
        return false;
    }
    if (in_body(c))
        c->up.tokens -= (double)got;
    if (drop) {
        c->body.left -= (uint64_t)got;
        c->body.size += (uint64_t)got;
        if (!c->body.left) {
            c->body.done = true;
            finish(c);
        }
    } else {
        conn_feed(c, c->thread->scratch, (size_t)got);
    }
    return !c->dead && (size_t)got == room;
}

static void read_some(struct conn *c)
{
    uint64_t now = bandwidth || c->read_at ? now_ns() : 0;
    if (c->read_at > now) { /* a new connection's round trips, or the bandwidth */
        loop_watch(c, false, c->writing);
        loop_arm(c);
        return;
    }
    c->read_at = 0;
    if (c->tls) {
        tls_read(c, now);
        return;
    }
    for (int i = 0; i < READS_IN_A_ROW && read_plain(c, now); i++)
        ;
}

/* One piece of the content; false where the socket takes no more for now. */
static bool write_content(struct conn *c, size_t allowed)
{
    uint64_t to_end = CONTENT_SIZE - c->content;
    size_t want = c->content_left < to_end ? (size_t)c->content_left : (size_t)to_end;
    want = want < allowed ? want : allowed;
    ssize_t sent;
    if (c->tls) {
        want = want < TLS_PIECE ? want : TLS_PIECE;
        sent = (ssize_t)tls_write(c, content_data + c->content, want);
    } else {
        off_t from = (off_t)c->content;
        sent = sendfile(c->fd, content_fd, &from, want < MOVE_SIZE ? want : MOVE_SIZE);
    }
    if (sent <= 0) {
        if (c->tls || errno != EAGAIN)
            conn_close(c);
        return false;
    }
    c->down.tokens -= (double)sent;
    c->content = (c->content + (uint64_t)sent) % CONTENT_SIZE;
    c->content_left -= (uint64_t)sent;
    return c->tls ? tls_flush(c) : true;
}

static bool write_out(struct conn *c)
{
    size_t left = c->out.size - c->out_done;
    if (!left)
        return true;
    ssize_t sent;
    if (c->tls)
        sent = (ssize_t)tls_write(c, c->out.data + c->out_done, left);
    else
        sent = send(c->fd, c->out.data + c->out_done, left,
                    MSG_NOSIGNAL | (c->content_left ? MSG_MORE : 0));
    if (sent < 0) {
        if (errno != EAGAIN)
            conn_close(c);
        return false;
    }
    c->out_done += (size_t)sent;
    if (c->out_done < c->out.size)
        return false;
    c->out.size = c->out_done = 0;
    return !c->tls || c->content_left || tls_flush(c);
}

static void written(struct conn *c)
{
    loop_watch(c, true, false);
    if (c->state != WRITE)
        return; /* that was a 100 */
    if (!c->control) {
        uint64_t now = now_ns();
        count_add(IN_USE_US, (now - c->idle_since) / 1000);
        c->idle_since = now;
    }
    if (c->last)
        conn_close(c);
    else
        c->state = READ_HEAD;
}

static void write_some(struct conn *c)
{
    if (c->tls && !tls_flush(c))
        return;
    if (c->dead || !write_out(c)) {
        if (!c->dead)
            loop_watch(c, c->reading, true);
        return;
    }
    while (c->content_left && !c->dead) {
        uint64_t now = bandwidth ? now_ns() : 0;
        size_t allowed = conn_allowance(&c->down, now, c->content_left, &c->write_at);
        if (!allowed) {
            loop_watch(c, c->reading, false);
            loop_arm(c);
            return;
        }
        if (!write_content(c, allowed)) {
            if (!c->dead)
                loop_watch(c, c->reading, true);
            return;
        }
    }
    if (!c->dead)
        written(c);
}

static void start_write(struct conn *c)
{
    c->state = WRITE;
    write_some(c);
}

void conn_ready(struct conn *c, bool readable, bool writable)
{
    if (writable && !c->dead)
        write_some(c);
    if (readable && !c->dead)
        read_some(c);
}

void conn_timer(struct conn *c, uint64_t now)
{
    if (c->answer_at && c->answer_at <= now) {
        c->answer_at = 0;
        if (c->state == WAIT)
            start_write(c);
        else if (c->out.size)
            write_some(c);
    }
    if (!c->dead && c->write_at && c->write_at <= now) {
        c->write_at = 0;
        write_some(c);
    }
    if (!c->dead && c->read_at && c->read_at <= now) {
        loop_watch(c, true, c->writing);
        read_some(c);
    }
    if (!c->dead)
        loop_arm(c);
}

void conn_close(struct conn *c)
{
    if (c->dead)
        return;
    c->dead = true;
    loop_disarm(c);
    if (c->tls)
        tls_free(c->tls);
    close(c->fd); /* takes it out of epoll, too */
    c->next_dead = c->thread->dead;
    c->thread->dead = c;
}
