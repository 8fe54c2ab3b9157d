// What of the C library there is: runtime.c.
#pragma once
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t length);
void *memset(void *to, int byte, size_t length);
int memcmp(const void *left, const void *right, size_t length);
void *memchr(const void *in, int byte, size_t length);
size_t strlen(const char *text);
