// The few functions of the C library that the decoder and its bindings call.
//
// Memory comes in blocks of a power of two bytes; a freed block serves the next call for its size. A decoder that asks
// for more than podtap allows traps, and podtap goes on with a fresh instance.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 65536, HEADER = 8, SMALLEST = 4, CLASSES = 31 };

struct block {
  size_t class;        // of 1 << class bytes, header included
  struct block *next;  // while free; else the block's content begins here
};

extern unsigned char __heap_base;
static uintptr_t fresh, end;
static struct block *freed[CLASSES];

_Noreturn void abort(void) { __builtin_trap(); }

void *malloc(size_t size) {
  if (size > ((size_t)1 << (CLASSES - 1)) - HEADER) abort();
  size_t class = SMALLEST;
  while (((size_t)1 << class) < size + HEADER) class++;
  struct block *block = freed[class];
  if (block) {
    freed[class] = block->next;
    return (unsigned char *)block + HEADER;
  }
  if (!fresh) {
    fresh = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
    end = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
  }
  size_t length = (size_t)1 << class;
  if (length > end - fresh) {
    size_t pages = (length - (end - fresh) + PAGE - 1) / PAGE;
    if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) abort();
    end += pages * PAGE;
  }
  block = (struct block *)fresh;
  fresh += length;
  block->class = class;
  return (unsigned char *)block + HEADER;
}

void free(void *memory) {
  if (!memory) return;
  struct block *block = (struct block *)((unsigned char *)memory - HEADER);
  block->next = freed[block->class];
  freed[block->class] = block;
}

void *realloc(void *old, size_t size) {
  if (!old) return malloc(size);
  const struct block *block = (const struct block *)((unsigned char *)old - HEADER);
  size_t room = ((size_t)1 << block->class) - HEADER;
  if (size <= room) return old;
  void *new = malloc(size);
  memcpy(new, old, room);
  free(old);
  return new;
}

// With bulk memory these two are one instruction each.
void *memcpy(void *restrict to, const void *restrict from, size_t length) { return __builtin_memcpy(to, from, length); }

void *memset(void *to, int byte, size_t length) { return __builtin_memset(to, byte, length); }

int memcmp(const void *left, const void *right, size_t length) {
  const unsigned char *a = left, *b = right;
  for (size_t at = 0; at < length; at++) {
    if (a[at] != b[at]) return a[at] - b[at];
  }
  return 0;
}

void *memchr(const void *in, int byte, size_t length) {
  const unsigned char *bytes = in;
  for (size_t at = 0; at < length; at++) {
    if (bytes[at] == (unsigned char)byte) return (void *)(bytes + at);
  }
  return NULL;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}
