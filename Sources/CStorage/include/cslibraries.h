/* Thin shims for libcrypto and expat: fixed sizes, no callbacks into Swift but those that are given. */
#ifndef CSLIBRARIES_H
#define CSLIBRARIES_H

#include <stddef.h>
#include <stdint.h>

/* One digest of a whole buffer; all return 1 on success, 0 when the library refuses. */
int cs_sha256(const void *bytes, size_t length, uint8_t digest[32]);
int cs_sha1(const void *bytes, size_t length, uint8_t digest[20]);
int cs_md5(const void *bytes, size_t length, uint8_t digest[16]);
int cs_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length, uint8_t digest[32]);

/* SHA-256 or MD5 (kind 5) piece by piece. NULL when the library refuses; free in any case, NULL is fine. */
typedef struct cs_digest cs_digest;
cs_digest *cs_digest_new(int kind);
int cs_digest_update(cs_digest *digest, const void *bytes, size_t length);
/* Writes 32 or 16 bytes. */
int cs_digest_finish(cs_digest *digest, uint8_t *out);
void cs_digest_free(cs_digest *digest);

/* Parses a whole XML document without a DTD. The callbacks get the context and names without their namespace; `text` may
 * come in pieces. A callback stops the parse by returning 0. Returns 0: parsed; 1: malformed; 2: a DTD, which is refused;
 * 3: stopped by a callback. *offset is the byte where it ended. */
typedef struct {
    int (*start)(void *context, const char *name);
    int (*text)(void *context, const char *bytes, int length);
    int (*end)(void *context);
} cs_xml_callbacks;
int cs_xml_parse(const char *bytes, int length, const cs_xml_callbacks *callbacks, void *context, long *offset);

/* For build_info: versions of libcrypto and expat as text that lives for ever. */
const char *cs_crypto_version(void);
const char *cs_xml_version(void);

#endif
