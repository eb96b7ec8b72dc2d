/* A connection through OpenSSL. Cipher text moves in big pieces: one recv and one send for many
 * records, where OpenSSL on a socket makes two calls a record. What must not live here: HTTP. */
#include "origin.h"
#include <stdio.h>
#ifndef WITH_TLS
bool tls_setup(const char *certificate, const char *key)
{
    (void)certificate, (void)key;
    fprintf(stderr, "built without TLS: OpenSSL's headers were not found\n");
    return false;
}
struct tls *tls_new(struct conn *c) { return (void)c, NULL; }
void tls_free(struct tls *t) { (void)t; }
void tls_read(struct conn *c, uint64_t now) { (void)c, (void)now; }
size_t tls_write(struct conn *c, const char *d, size_t n) { return (void)c, (void)d, n; }
bool tls_flush(struct conn *c) { return (void)c, true; }
#else
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct tls {
    SSL *ssl;
    struct text out; /* cipher text that the socket did not take yet */
    size_t out_done;
    bool ready;
};

static SSL_CTX *context;
static BIO_METHOD *method;

static int bio_read(BIO *bio, char *data, int size)
{
    struct thread *t = ((struct conn *)BIO_get_data(bio))->thread;
    size_t left = t->cipher_size - t->cipher_at;
    size_t n = left < (size_t)size ? left : (size_t)size;
    BIO_clear_retry_flags(bio);
    if (!n) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(data, t->cipher + t->cipher_at, n);
    t->cipher_at += n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    struct conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    text_add(&c->tls->out, data, (size_t)size);
    return size;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static int choose(SSL *ssl, const unsigned char **out, unsigned char *size,
                  const unsigned char *in, unsigned int in_size, void *none)
{
    static const unsigned char http[] = "\x08http/1.1";
    (void)ssl, (void)none;
    int found = SSL_select_next_proto((unsigned char **)out, size, http, 9, in, in_size);
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

bool tls_setup(const char *certificate, const char *key)
{
    context = SSL_CTX_new(TLS_server_method());
    /* What S3 picks with every client here; also the leanest for both sides. */
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_alpn_select_cb(context, choose, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pieces");
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    BIO_meth_set_create(method, bio_create);
    if (SSL_CTX_use_certificate_chain_file(context, certificate) == 1 &&
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1)
        return true;
    ERR_print_errors_fp(stderr);
    return false;
}

struct tls *tls_new(struct conn *c)
{
    struct tls *t = calloc(1, sizeof *t);
    BIO *bio = BIO_new(method);
    BIO_set_data(bio, c);
    t->ssl = SSL_new(context);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_free(struct tls *t)
{
    SSL_free(t->ssl);
    free(t->out.data);
    free(t);
}

/* All that was received: OpenSSL keeps the record that is not whole, so nothing is left over. */
static void drain(struct conn *c)
{
    while (!c->dead) {
        int n = SSL_read(c->tls->ssl, c->thread->scratch, SCRATCH_SIZE);
        if (n <= 0) {
            if (SSL_get_error(c->tls->ssl, n) != SSL_ERROR_WANT_READ)
                conn_close(c);
            ERR_clear_error();
            return;
        }
        conn_feed(c, c->thread->scratch, (size_t)n);
    }
}

void tls_read(struct conn *c, uint64_t now)
{
    struct thread *t = c->thread;
    size_t room = SCRATCH_SIZE;
    if (c->state == READ_BODY) {
        room = conn_allowance(&c->up, now, room, &c->read_at);
        if (!room) {
            loop_watch(c, false, c->writing);
            loop_arm(c);
            return;
        }
    }
    ssize_t got = recv(c->fd, t->cipher, room, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            if (c->state == READ_BODY)
                problem("closed %llu bytes short", (unsigned long long)c->body.left);
            conn_close(c);
        }
        return;
    }
    if (c->state == READ_BODY)
        c->up.tokens -= (double)got;
    t->cipher_at = 0;
    t->cipher_size = (size_t)got;
    drain(c);
    if (c->dead)
        return;
    if (!c->tls->ready && SSL_is_init_finished(c->tls->ssl)) {
        c->tls->ready = true;
        count_add(N_HANDSHAKES, 1);
    }
    if (!tls_flush(c) && !c->dead)
        loop_watch(c, c->reading, true);
}

size_t tls_write(struct conn *c, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        int n = SSL_write(c->tls->ssl, data + done, (int)(size - done));
        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return done;
}

bool tls_flush(struct conn *c)
{
    struct tls *t = c->tls;
    while (t->out_done < t->out.size) {
        ssize_t n = send(c->fd, t->out.data + t->out_done, t->out.size - t->out_done,
                         MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN)
                conn_close(c);
            return false;
        }
        t->out_done += (size_t)n;
    }
    t->out.size = t->out_done = 0;
    return true;
}
#endif
