/* Checksums as S3 names them: CRC64NVME, CRC32, CRC32C; all reflected. */
#ifndef CRC_H
#define CRC_H
#include <stddef.h>
#include <stdint.h>

enum crc_kind { CRC_NONE, CRC64NVME, CRC32, CRC32C, CRC_KINDS };

void crc_setup(void);
/* The checksum of what `crc` is the checksum of, followed by these bytes. 0 is of nothing. */
uint64_t crc_update(enum crc_kind kind, uint64_t crc, const void *data, size_t size);
/* The checksum of A followed by B, from both checksums and the length of B. */
uint64_t crc_combine(enum crc_kind kind, uint64_t a, uint64_t b, uint64_t size_b);
/* Big endian, base64, as it stands in a header; `text` takes 16 bytes. */
void crc_text(enum crc_kind kind, uint64_t crc, char *text);
/* `crc64nvme` and its kin, as they end a header's name; CRC_NONE for anything else. */
enum crc_kind crc_named(const char *name, size_t size);
extern const char *const crc_names[CRC_KINDS];
#endif
