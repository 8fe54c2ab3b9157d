// See columns.h.

#include "columns.h"

#include <stdlib.h>
#include <string.h>

struct column {
  void *items;
  size_t length, capacity;
};

static struct column connections, protocols, outcomes, times, sizes, text_lengths, attribute_counts, attribute_ids,
    attribute_values, text, demand_connections, demand_kinds, demand_positions;
static uint64_t undecoded_bytes;

// Room for `count` items of `size` bytes more. An empty column has no memory: the bindings would not free it.
static void *room(struct column *column, size_t count, size_t size) {
  if (count > column->capacity - column->length) {
    size_t capacity = 2 * column->capacity + count + 16;
    if (capacity > SIZE_MAX / size) abort();
    column->items = realloc(column->items, capacity * size);
    column->capacity = capacity;
  }
  void *place = (uint8_t *)column->items + column->length * size;
  column->length += count;
  return place;
}

static void push_u8(struct column *column, uint8_t value) { *(uint8_t *)room(column, 1, sizeof value) = value; }
static void push_u16(struct column *column, uint16_t value) { *(uint16_t *)room(column, 1, sizeof value) = value; }
static void push_u32(struct column *column, uint32_t value) { *(uint32_t *)room(column, 1, sizeof value) = value; }
static void push_u64(struct column *column, uint64_t value) { *(uint64_t *)room(column, 1, sizeof value) = value; }

static void push_text(struct text piece) {
  if (piece.length > 0) memcpy(room(&text, piece.length, 1), piece.bytes, piece.length);
}

void add_exchange(uint32_t connection, enum outcome outcome, struct span request, struct span response,
                  uint64_t lost_bytes, struct text operation, struct text target) {
  push_u32(&connections, connection);
  push_u8(&protocols, 0);
  push_u8(&outcomes, (uint8_t)outcome);
  push_u64(&times, request.start_ns);
  push_u64(&times, request.end_ns);
  push_u64(&times, response.start_ns);
  push_u64(&times, response.end_ns);
  push_u64(&sizes, request.bytes);
  push_u64(&sizes, response.bytes);
  push_u64(&sizes, lost_bytes);
  push_u32(&text_lengths, (uint32_t)operation.length);
  push_u32(&text_lengths, (uint32_t)target.length);
  push_u32(&text_lengths, 0);  // no summary: podtap joins the two
  push_text(operation);
  push_text(target);
  push_u16(&attribute_counts, 0);
}

void add_number(uint16_t attribute, uint64_t value) {
  ((uint16_t *)attribute_counts.items)[attribute_counts.length - 1]++;
  push_u16(&attribute_ids, attribute);
  push_u64(&attribute_values, value);
}

void add_text(uint16_t attribute, struct text value) {
  add_number(attribute, value.length);
  push_text(value);
}

void demand_skip(uint32_t connection, enum side side, uint64_t position) {
  push_u32(&demand_connections, connection);
  push_u8(&demand_kinds, (uint8_t)side);
  push_u64(&demand_positions, position);
}

void add_undecoded(uint64_t bytes) { undecoded_bytes += bytes; }

#define TAKE(field, from)           \
  output->field.ptr = from.items;   \
  output->field.len = from.length;  \
  from = (struct column){0}

void take_output(podtap_decoder_types_output_t *output) {
  TAKE(exchange_connections, connections);
  TAKE(protocols, protocols);
  TAKE(outcomes, outcomes);
  TAKE(times, times);
  TAKE(sizes, sizes);
  TAKE(text_lengths, text_lengths);
  TAKE(attribute_counts, attribute_counts);
  TAKE(attribute_ids, attribute_ids);
  TAKE(attribute_values, attribute_values);
  TAKE(text, text);
  TAKE(demand_connections, demand_connections);
  TAKE(demand_kinds, demand_kinds);
  TAKE(demand_positions, demand_positions);
  output->undecoded_bytes = undecoded_bytes;
  undecoded_bytes = 0;
}
