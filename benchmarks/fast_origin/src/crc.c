/* The three checksums by one method: fold 16 bytes at a time with carry-less products, and let a
 * table finish the last 16. A polynomial of degree below 64 stands in 64 bits, x^0 in the top bit.
 * Without PCLMULQDQ eight tables do the work. What must not live here: anything about requests. */
#include "crc.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define FOLD 1
#endif

const char *const crc_names[CRC_KINDS] = {"", "crc64nvme", "crc32", "crc32c"};

struct method {
    uint64_t poly; /* x^width without its own term, top bit is x^0 */
    int width;
    uint64_t table[8][256];
    uint64_t by16, by16_high;   /* x^127, x^191: one lane forward by 16 bytes */
    uint64_t by128, by128_high; /* the same by 128 bytes */
    uint64_t by512, by512_high;
};

static struct method methods[CRC_KINDS];
static int fold, fold_wide;

static uint64_t times_x(const struct method *m, uint64_t v)
{
    uint64_t carry = m->width == 64 ? v & 1 : v >> 32 & 1;
    v >>= 1;
    if (m->width != 64)
        v &= 0xffffffff00000000ull;
    return carry ? v ^ m->poly : v;
}

static uint64_t power(const struct method *m, unsigned n)
{
    uint64_t v = 1ull << 63;
    while (n--)
        v = times_x(m, v);
    return v;
}

static uint64_t product(const struct method *m, uint64_t a, uint64_t b)
{
    uint64_t sum = 0;
    for (int i = 63; i >= 64 - m->width; i--, b = times_x(m, b))
        if (a >> i & 1)
            sum ^= b;
    return sum;
}

static void setup(enum crc_kind kind, uint64_t poly, int width)
{
    struct method *m = &methods[kind];
    m->width = width;
    m->poly = poly << (64 - width);
    for (unsigned i = 0; i < 256; i++) {
        uint64_t v = i;
        for (int bit = 0; bit < 8; bit++)
            v = v & 1 ? v >> 1 ^ poly : v >> 1;
        m->table[0][i] = v;
    }
    for (unsigned i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            m->table[k][i] = m->table[k - 1][i] >> 8 ^ m->table[0][m->table[k - 1][i] & 255];
    m->by16 = power(m, 127), m->by16_high = power(m, 191);
    m->by128 = power(m, 1023), m->by128_high = power(m, 1087);
    m->by512 = power(m, 4095), m->by512_high = power(m, 4159);
}

void crc_setup(void)
{
    setup(CRC64NVME, 0x9a6c9329ac4bc9b5ull, 64);
    setup(CRC32, 0xedb88320u, 32);
    setup(CRC32C, 0x82f63b78u, 32);
#ifdef FOLD
    __builtin_cpu_init();
    fold = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    fold_wide = fold && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512f");
#endif
}

static uint64_t by_table(const struct method *m, uint64_t crc, const unsigned char *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v, next = 0;
        memcpy(&v, p, 8);
        v ^= crc;
        for (int k = 0; k < 8; k++)
            next ^= m->table[7 - k][v >> (8 * k) & 255];
        crc = next;
    }
    while (n--)
        crc = crc >> 8 ^ m->table[0][(crc ^ *p++) & 255];
    return crc;
}

#ifdef FOLD
#define SSE __attribute__((target("pclmul,sse4.1")))

SSE static inline __m128i forward(__m128i lane, __m128i keys)
{
    return _mm_xor_si128(_mm_clmulepi64_si128(lane, keys, 0x00),
                         _mm_clmulepi64_si128(lane, keys, 0x11));
}

SSE static inline __m128i load(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

/* At least 128 bytes; eight lanes, then one, then the table. */
SSE static uint64_t by_fold(const struct method *m, uint64_t crc, const unsigned char *p, size_t n)
{
    __m128i lane[8], keys = _mm_set_epi64x((long long)m->by128, (long long)m->by128_high);
    for (int i = 0; i < 8; i++)
        lane[i] = load(p + 16 * i);
    lane[0] = _mm_xor_si128(lane[0], _mm_set_epi64x(0, (long long)crc));
    for (p += 128, n -= 128; n >= 128; p += 128, n -= 128)
        for (int i = 0; i < 8; i++)
            lane[i] = _mm_xor_si128(forward(lane[i], keys), load(p + 16 * i));
    keys = _mm_set_epi64x((long long)m->by16, (long long)m->by16_high);
    for (int i = 1; i < 8; i++)
        lane[i] = _mm_xor_si128(forward(lane[i - 1], keys), lane[i]);
    for (; n >= 16; p += 16, n -= 16)
        lane[7] = _mm_xor_si128(forward(lane[7], keys), load(p));
    unsigned char last[16];
    _mm_storeu_si128((__m128i *)last, lane[7]);
    return by_table(m, by_table(m, 0, last, 16), p, n);
}

#define WIDE __attribute__((target("vpclmulqdq,avx512f,pclmul,sse4.1")))

/* At least 512 bytes; eight lanes of 64 bytes, brought down to a piece of 512 bytes for by_fold. */
WIDE static uint64_t by_wide(const struct method *m, uint64_t crc, const unsigned char *p, size_t n)
{
    __m512i lane[8];
    __m512i keys = _mm512_broadcast_i32x4(
        _mm_set_epi64x((long long)m->by512, (long long)m->by512_high));
    for (int i = 0; i < 8; i++)
        lane[i] = _mm512_loadu_si512(p + 64 * i);
    lane[0] = _mm512_xor_si512(
        lane[0], _mm512_zextsi128_si512(_mm_set_epi64x(0, (long long)crc)));
    for (p += 512, n -= 512; n >= 512; p += 512, n -= 512)
        for (int i = 0; i < 8; i++) {
            __m512i low = _mm512_clmulepi64_epi128(lane[i], keys, 0x00);
            __m512i high = _mm512_clmulepi64_epi128(lane[i], keys, 0x11);
            lane[i] = _mm512_ternarylogic_epi64(low, high, _mm512_loadu_si512(p + 64 * i), 0x96);
        }
    unsigned char last[512];
    for (int i = 0; i < 8; i++)
        _mm512_storeu_si512(last + 64 * i, lane[i]);
    return by_table(m, by_fold(m, 0, last, 512), p, n);
}
#endif

uint64_t crc_update(enum crc_kind kind, uint64_t crc, const void *data, size_t size)
{
    const struct method *m = &methods[kind];
    uint64_t all = m->width == 64 ? ~0ull : 0xffffffffull;
    crc ^= all;
#ifdef FOLD
    if (fold_wide && size >= 1024)
        return by_wide(m, crc, data, size) ^ all;
    if (fold && size >= 128)
        return by_fold(m, crc, data, size) ^ all;
#endif
    return by_table(m, crc, data, size) ^ all;
}

uint64_t crc_combine(enum crc_kind kind, uint64_t a, uint64_t b, uint64_t size_b)
{
    const struct method *m = &methods[kind];
    int up = 64 - m->width;
    uint64_t shift = 1ull << 63, square = power(m, 8); /* x^8: one byte */
    for (; size_b; size_b >>= 1, square = product(m, square, square))
        if (size_b & 1)
            shift = product(m, shift, square);
    return product(m, a << up, shift) >> up ^ b;
}

void crc_text(enum crc_kind kind, uint64_t crc, char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int bytes = methods[kind].width / 8;
    unsigned char raw[9] = {0};
    for (int i = 0; i < bytes; i++)
        raw[i] = (unsigned char)(crc >> (8 * (bytes - 1 - i)));
    char *out = text;
    for (int i = 0; i < bytes; i += 3) {
        unsigned v = (unsigned)raw[i] << 16 | (unsigned)raw[i + 1] << 8 | raw[i + 2];
        for (int k = 0; k < 4; k++)
            *out++ = i + k > bytes ? '=' : digits[v >> (18 - 6 * k) & 63];
    }
    *out = 0;
}

enum crc_kind crc_named(const char *name, size_t size)
{
    for (int kind = 1; kind < CRC_KINDS; kind++)
        if (strlen(crc_names[kind]) == size && memcmp(crc_names[kind], name, size) == 0)
            return (enum crc_kind)kind;
    return CRC_NONE;
}
