/* Multipart uploads under way: sizes and sums of their parts, no bytes. Shared by the threads. */
#include "origin.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS 10000

struct part {
    uint64_t size, crc;
    enum crc_kind kind;
    bool here;
};
struct upload {
    struct part *parts;
    uint64_t room;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct upload **uploads;
static uint64_t made, room, under_way;

uint64_t upload_create(void)
{
    pthread_mutex_lock(&lock);
    if (made == room) {
        room = room ? 2 * room : 64;
        uploads = realloc(uploads, room * sizeof *uploads);
    }
    uploads[made++] = calloc(1, sizeof **uploads);
    under_way++;
    uint64_t id = made;
    pthread_mutex_unlock(&lock);
    return id;
}

static struct upload *find(uint64_t id)
{
    return id && id <= made ? uploads[id - 1] : NULL;
}

static void forget(uint64_t id)
{
    free(uploads[id - 1]->parts);
    free(uploads[id - 1]);
    uploads[id - 1] = NULL;
    under_way--;
}

bool upload_part(uint64_t id, uint64_t number, const struct body *b)
{
    if (number < 1 || number > MAX_PARTS)
        return false;
    pthread_mutex_lock(&lock);
    struct upload *u = find(id);
    if (u) {
        if (number > u->room) {
            uint64_t more = number < 64 ? 64 : number < MAX_PARTS / 2 ? 2 * number : MAX_PARTS;
            u->parts = realloc(u->parts, more * sizeof *u->parts);
            memset(u->parts + u->room, 0, (more - u->room) * sizeof *u->parts);
            u->room = more;
        }
        u->parts[number - 1] = (struct part){b->size, b->crc, b->kind, true};
    }
    pthread_mutex_unlock(&lock);
    return u;
}

bool upload_complete(uint64_t id, uint64_t *parts, uint64_t *size, enum crc_kind *kind,
                     uint64_t *crc)
{
    *parts = *size = *crc = 0;
    *kind = CRC_NONE;
    pthread_mutex_lock(&lock);
    struct upload *u = find(id);
    for (uint64_t i = 0; u && i < u->room; i++) {
        struct part *p = &u->parts[i];
        if (!p->here)
            continue;
        *kind = *parts == 0 || *kind == p->kind ? p->kind : CRC_NONE;
        if (*kind)
            *crc = crc_combine(*kind, *crc, p->crc, p->size);
        *parts += 1;
        *size += p->size;
    }
    if (u)
        forget(id);
    pthread_mutex_unlock(&lock);
    return u;
}

bool upload_abort(uint64_t id)
{
    pthread_mutex_lock(&lock);
    bool there = find(id);
    if (there)
        forget(id);
    pthread_mutex_unlock(&lock);
    return there;
}

uint64_t upload_open(void)
{
    return __atomic_load_n(&under_way, __ATOMIC_RELAXED);
}
