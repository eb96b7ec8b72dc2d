/* The bytes that can be fetched: one pattern in memory, from which each key has its own start.
 * A key says its size: s/SIZE/COUNT/NAME. What must not live here: requests. */
#define _GNU_SOURCE
#include "origin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int content_fd;
const char *content_data;
static uint64_t whole;

void content_setup(void)
{
    content_fd = memfd_create("content", MFD_CLOEXEC);
    if (content_fd < 0 || ftruncate(content_fd, (off_t)CONTENT_SIZE) != 0) {
        perror("memory for the content");
        exit(1);
    }
    uint64_t *p = mmap(NULL, CONTENT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, content_fd, 0);
    if (p == MAP_FAILED) {
        perror("memory for the content");
        exit(1);
    }
    uint64_t v = 0x9e3779b97f4a7c15ull; /* xorshift64: the same bytes in every process */
    for (size_t i = 0; i < CONTENT_SIZE / 8; i++) {
        v ^= v << 13, v ^= v >> 7, v ^= v << 17;
        p[i] = v;
    }
    content_data = (const char *)p;
    whole = crc_update(CRC64NVME, 0, p, CONTENT_SIZE);
}

uint64_t content_hash(struct span key)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < key.size; i++)
        h = (h ^ (unsigned char)key.data[i]) * 0x100000001b3ull;
    return h ^ h >> 29;
}

bool content_find(struct span key, uint64_t *size, uint64_t *start)
{
    if (key.size < 6 || memcmp(key.data, "s/", 2) != 0)
        return false;
    *size = span_number((struct span){key.data + 2, key.size - 2});
    /* Whole pages, so that sendfile gives them away without a copy. */
    *start = content_hash(key) % (CONTENT_SIZE >> 12) << 12;
    return true;
}

uint64_t content_crc(uint64_t size, uint64_t start)
{
    uint64_t tail = CONTENT_SIZE - start;
    if (size <= tail)
        return crc_update(CRC64NVME, 0, content_data + start, size);
    uint64_t crc = crc_update(CRC64NVME, 0, content_data + start, tail);
    for (size -= tail; size >= CONTENT_SIZE; size -= CONTENT_SIZE)
        crc = crc_combine(CRC64NVME, crc, whole, CONTENT_SIZE);
    return crc_update(CRC64NVME, crc, content_data, size);
}

void content_name(uint64_t number, char name[32])
{
    snprintf(name, 32, "%05u/%07u", (unsigned)(number / 1000 % 100000),
             (unsigned)(number % 10000000));
}
