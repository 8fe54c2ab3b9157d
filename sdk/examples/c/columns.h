// The columns of `output` (see wit/podtap-decoder.wit), which grow as exchanges are found and are handed over at the
// end of a call. The bindings free what was handed over.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugin.h"

enum side { CLIENT = 0, SERVER = 128 };  // as in the contract's kinds

enum outcome { OK, ERROR, NO_RESPONSE, ABORTED, UNMATCHED };

struct text {
  const uint8_t *bytes;
  size_t length;
};

// First and last byte's time (0: not seen), and how many bytes.
struct span {
  uint64_t start_ns, end_ns, bytes;
};

// Adds an exchange; its attributes follow.
void add_exchange(uint32_t connection, enum outcome outcome, struct span request, struct span response,
                  uint64_t lost_bytes, struct text operation, struct text target);
void add_text(uint16_t attribute, struct text value);
void add_number(uint16_t attribute, uint64_t value);

// Bytes of `side` before `position` are not needed.
void demand_skip(uint32_t connection, enum side side, uint64_t position);

// Payload that belongs to no exchange.
void add_undecoded(uint64_t bytes);

// Hands over what was added since the last call.
void take_output(podtap_decoder_types_output_t *output);
