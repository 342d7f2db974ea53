/* What a transfer is to the two files that handle it. */
#ifndef CSCURLTRANSFER_H
#define CSCURLTRANSFER_H

#include <curl/curl.h>
#include <stdint.h>

typedef struct {
    CURL *easy;
    struct curl_slist *headers;
    void *context;
    int (*seek)(void *context, int64_t offset, int origin);
    /* All of a small body; NULL: curl reads it piece by piece. */
    char *body;
    char error[CURL_ERROR_SIZE];
} cs_transfer;

#endif
