/* The digests themselves, not EVP: they allocate nothing, take no lock that a fork could copy, read no openssl.cnf, cannot
 * fail, and leave OpenSSL uninitialised, whose exit handler would pull EVP away under our threads. SHA256() and its like
 * go through EVP since OpenSSL 3; only Init, Update and Final do not. OpenSSL calls them deprecated since it wants to
 * choose the implementation. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "cslibraries.h"

#include <expat.h>
#include <openssl/crypto.h>
#include <openssl/md5.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define ONE_SHOT(name, prefix, size)                                           \
    int name(const void *bytes, size_t length, uint8_t digest[size]) {         \
        prefix##_CTX context;                                                  \
        prefix##_Init(&context);                                               \
        prefix##_Update(&context, bytes, length);                              \
        prefix##_Final(digest, &context);                                      \
        return 1;                                                              \
    }

#define SHA1_CTX SHA_CTX
ONE_SHOT(cs_sha256, SHA256, 32)
ONE_SHOT(cs_sha1, SHA1, 20)
ONE_SHOT(cs_md5, MD5, 16)

/* RFC 2104. */
int cs_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length, uint8_t digest[32]) {
    uint8_t block[SHA256_CBLOCK] = {0};
    SHA256_CTX context;
    if (key_length > sizeof block) cs_sha256(key, key_length, block);
    else if (key_length > 0) memcpy(block, key, key_length);
    for (size_t index = 0; index < sizeof block; index++) block[index] ^= 0x36;
    SHA256_Init(&context);
    SHA256_Update(&context, block, sizeof block);
    SHA256_Update(&context, bytes, length);
    SHA256_Final(digest, &context);
    for (size_t index = 0; index < sizeof block; index++) block[index] ^= 0x36 ^ 0x5c;
    SHA256_Init(&context);
    SHA256_Update(&context, block, sizeof block);
    SHA256_Update(&context, digest, 32);
    SHA256_Final(digest, &context);
    /* Neither the key nor what it became stays on the stack. */
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(&context, sizeof context);
    return 1;
}

struct cs_digest {
    int is_md5;
    union {
        SHA256_CTX sha256;
        MD5_CTX md5;
    } context;
};

cs_digest *cs_digest_new(int kind) {
    cs_digest *digest = calloc(1, sizeof *digest);
    if (digest == NULL) return NULL;
    digest->is_md5 = kind == 5;
    if (digest->is_md5) MD5_Init(&digest->context.md5);
    else SHA256_Init(&digest->context.sha256);
    return digest;
}

int cs_digest_update(cs_digest *digest, const void *bytes, size_t length) {
    return digest->is_md5 ? MD5_Update(&digest->context.md5, bytes, length)
                          : SHA256_Update(&digest->context.sha256, bytes, length);
}

int cs_digest_finish(cs_digest *digest, uint8_t *out) {
    return digest->is_md5 ? MD5_Final(out, &digest->context.md5) : SHA256_Final(out, &digest->context.sha256);
}

void cs_digest_free(cs_digest *digest) { free(digest); }

const char *cs_crypto_version(void) { return OpenSSL_version(OPENSSL_VERSION); }

/* XML */

typedef struct {
    XML_Parser parser;
    const cs_xml_callbacks *callbacks;
    void *context;
    int reason;
} xml_state;

static void stop(xml_state *state, int reason) {
    if (state->reason == 0) state->reason = reason;
    XML_StopParser(state->parser, XML_FALSE);
}

static void on_start(void *data, const XML_Char *name, const XML_Char **attributes) {
    xml_state *state = data;
    (void)attributes;
    /* Handlers may still be called after a stop. */
    if (state->reason != 0) return;
    const char *colon = strrchr(name, ':');
    if (!state->callbacks->start(state->context, colon != NULL ? colon + 1 : name)) stop(state, 3);
}

static void on_end(void *data, const XML_Char *name) {
    xml_state *state = data;
    (void)name;
    if (state->reason == 0 && !state->callbacks->end(state->context)) stop(state, 3);
}

static void on_text(void *data, const XML_Char *text, int length) {
    xml_state *state = data;
    if (state->reason == 0 && !state->callbacks->text(state->context, text, length)) stop(state, 3);
}

static void on_doctype(
    void *data, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id, int has_internal_subset) {
    (void)name, (void)system_id, (void)public_id, (void)has_internal_subset;
    stop(data, 2);
}

int cs_xml_parse(const char *bytes, int length, const cs_xml_callbacks *callbacks, void *context, long *offset) {
    xml_state state = {XML_ParserCreate("UTF-8"), callbacks, context, 0};
    *offset = 0;
    if (state.parser == NULL) return 1;
    XML_SetUserData(state.parser, &state);
    XML_SetElementHandler(state.parser, on_start, on_end);
    XML_SetCharacterDataHandler(state.parser, on_text);
    XML_SetStartDoctypeDeclHandler(state.parser, on_doctype);
    enum XML_Status status = XML_Parse(state.parser, bytes, length, 1);
    *offset = (long)XML_GetCurrentByteIndex(state.parser);
    XML_ParserFree(state.parser);
    if (state.reason != 0) return state.reason;
    return status == XML_STATUS_OK ? 0 : 1;
}

const char *cs_xml_version(void) { return XML_ExpatVersion(); }
