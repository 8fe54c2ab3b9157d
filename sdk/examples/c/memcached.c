// A podtap decoder of memcached's text protocol (doc/protocol.txt of memcached), in C.
//
// In: what both sides of a connection sent, cut anywhere (`batch` of wit/podtap-decoder.wit). Out: an exchange for each
// command and its response, paired in order. Values are passed over, never kept. It knows the commands in `commands`
// below; the binary protocol and the meta commands (mg, ms, ...) it does not.
//
// A side is a row of lines, some of which announce a value:
//
//   LINE ──announces a value──> VALUE ──all of it──> VALUE_END ──CRLF──> LINE
//     └──longer than MAX_LINE──> DISCARD ──LF──> LINE
//
// After a loss, reading goes on at LINE: a line that is neither command nor response is passed over as undecoded. What
// waited then for its response is reported without one, and responses are nobody's until the client asks again; where
// it has ever asked twice at once, for good. So rather no pair than a wrong one.

#include <stdlib.h>
#include <string.h>

#include "columns.h"

enum {
  MAX_LINE = 8192,               // longer lines are passed over; a get of many keys may be long
  MAX_KEY = 250,                 // memcached's own limit
  MAX_WORDS = 8,                 // of a line; more are counted, not kept
  MAX_WAITING = 256,             // commands of a connection without response
  MAX_CONNECTIONS = 1 << 20,     // podtap's ids are dense and far below
  WORTH_A_DEMAND = 2048,         // bytes of a value that are cheaper not to be given
};
static const uint64_t MAX_VALUE = 1 << 30;  // memcached's own limit of its -I

enum attribute { STATUS, KEYS, VALUE_SIZE, HITS, RETURNED_SIZE, NOREPLY, ERROR_MESSAGE };
static const struct {
  const char *name;
  podtap_decoder_types_value_kind_t kind;
  const char *doc;
} attributes[] = {
    [STATUS] = {"memcached.status", PODTAP_DECODER_TYPES_VALUE_KIND_TEXT,
                "First word of the response's last line; NUMBER for the new value of a counter."},
    [KEYS] = {"memcached.keys", PODTAP_DECODER_TYPES_VALUE_KIND_UINT, "Keys that the command names."},
    [VALUE_SIZE] = {"memcached.value_size", PODTAP_DECODER_TYPES_VALUE_KIND_UINT, "Size of the value to store, bytes."},
    [HITS] = {"memcached.hits", PODTAP_DECODER_TYPES_VALUE_KIND_UINT, "Values in the response to a retrieval."},
    [RETURNED_SIZE] = {"memcached.returned_size", PODTAP_DECODER_TYPES_VALUE_KIND_UINT,
                       "Size of the values in the response, bytes."},
    [NOREPLY] = {"memcached.noreply", PODTAP_DECODER_TYPES_VALUE_KIND_FLAG, "The client asked for no response."},
    [ERROR_MESSAGE] = {"memcached.error", PODTAP_DECODER_TYPES_VALUE_KIND_TEXT, "The server's words on its error."},
};
enum { ATTRIBUTES = sizeof attributes / sizeof *attributes };

enum shape { STORE, RETRIEVE, RETRIEVE_AND_TOUCH, ONE_KEY, NO_KEY, QUIT };
static const struct command {
  const char *name;
  enum shape shape;
} commands[] = {
    {"get", RETRIEVE},      {"gets", RETRIEVE},  {"gat", RETRIEVE_AND_TOUCH}, {"gats", RETRIEVE_AND_TOUCH},
    {"set", STORE},         {"add", STORE},      {"replace", STORE},          {"append", STORE},
    {"prepend", STORE},     {"cas", STORE},      {"delete", ONE_KEY},         {"incr", ONE_KEY},
    {"decr", ONE_KEY},      {"touch", ONE_KEY},  {"flush_all", NO_KEY},       {"version", NO_KEY},
    {"verbosity", NO_KEY},  {"stats", NO_KEY},   {"quit", QUIT},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

// Lines that end a response, by their first word. VALUE and STAT lines come before.
static const char *const finals[] = {"END",     "STORED", "NOT_STORED", "EXISTS", "NOT_FOUND",    "DELETED",
                                     "TOUCHED", "OK",     "VERSION",    "ERROR",  "CLIENT_ERROR", "SERVER_ERROR"};
enum { FINALS = sizeof finals / sizeof *finals, FIRST_ERROR = 9 };

struct words {
  size_t count;                   // of all words
  struct text word[MAX_WORDS];    // the first ones
  struct text last;
};

// An exchange that is not complete.
struct exchange {
  struct exchange *next;
  const struct command *command;  // NULL: the request was not captured
  bool request_open, noreply, has_value, is_stats;
  uint64_t keys, value_size, hits, returned_size, lost_bytes;
  struct span request;
  size_t key_length;
  uint8_t key[];
};

enum stage { LINE, VALUE, VALUE_END, DISCARD };

struct stream {
  enum side side;
  enum stage stage;
  bool started;
  uint64_t position;              // of the next byte
  uint64_t value_end, demanded;   // positions
  struct span message;            // so far
  uint64_t lost_bytes;            // of the message
  uint8_t *line;                  // of a line that is not complete: its first bytes
  size_t line_length;
};

struct connection {
  uint32_t id;
  struct stream client, server;
  struct exchange *first, **last;  // waiting, oldest first
  size_t waiting;
  struct exchange *answering;      // taken from the waiting ones, or made up
  bool pipelined;                  // has asked twice at once
  bool unsure;                     // the next response may be anybody's
  uint64_t lost_bytes;             // outside of exchanges, noted in the next one
};

static struct connection **connections;
static size_t connections_length;

static bool is(struct text text, const char *word) {
  return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

static struct text literal(const char *word) { return (struct text){(const uint8_t *)word, strlen(word)}; }

// Digits only, at most `max`.
static bool number(struct text text, uint64_t max, uint64_t *value) {
  if (text.length == 0 || text.length > 20) return false;
  *value = 0;
  for (size_t at = 0; at < text.length; at++) {
    if (text.bytes[at] < '0' || text.bytes[at] > '9') return false;
    uint64_t digit = text.bytes[at] - '0';
    if (*value > (max - digit) / 10) return false;
    *value = *value * 10 + digit;
  }
  return true;
}

static struct words split(struct text line) {
  struct words words = {0};
  for (size_t at = 0; at < line.length;) {
    size_t start = at;
    while (at < line.length && line.bytes[at] != ' ') at++;
    if (at > start) {
      words.last = (struct text){line.bytes + start, at - start};
      if (words.count < MAX_WORDS) words.word[words.count] = words.last;
      words.count++;
    }
    at++;
  }
  return words;
}

static const struct command *command_named(struct text name) {
  for (size_t at = 0; at < COMMANDS; at++) {
    if (is(name, commands[at].name)) return &commands[at];
  }
  return NULL;
}

// The place of a command's first key among its words; 0 without key.
static size_t key_place(enum shape shape) {
  return shape == NO_KEY || shape == QUIT ? 0 : shape == RETRIEVE_AND_TOUCH ? 2 : 1;
}

// Reports an exchange. `status` is the first word of the response's last line, where that was seen.
static void report(struct connection *connection, struct exchange *exchange, enum outcome outcome, struct span response,
                   struct text status, struct text error) {
  struct text operation = {0}, target = {exchange->key, exchange->key_length};
  if (exchange->command) operation = literal(exchange->command->name);
  add_exchange(connection->id, exchange->command ? outcome : UNMATCHED, exchange->request, response,
               exchange->lost_bytes, operation, target);
  bool retrieval = exchange->command && (exchange->command->shape == RETRIEVE || exchange->command->shape == RETRIEVE_AND_TOUCH);
  if (status.length > 0) add_text(STATUS, status);
  if (exchange->keys > 0) add_number(KEYS, exchange->keys);
  if (exchange->has_value) add_number(VALUE_SIZE, exchange->value_size);
  if (exchange->hits > 0 || (retrieval && is(status, "END"))) add_number(HITS, exchange->hits);
  if (exchange->hits > 0) add_number(RETURNED_SIZE, exchange->returned_size);
  if (exchange->noreply) add_number(NOREPLY, 1);
  if (error.length > 0) add_text(ERROR_MESSAGE, error);
  free(exchange);
}

static void report_unanswered(struct connection *connection, struct exchange *exchange, bool aborted) {
  if (exchange->request_open) exchange->request = connection->client.message, exchange->request.end_ns = 0;
  aborted |= exchange->request_open;
  report(connection, exchange, aborted ? ABORTED : NO_RESPONSE, (struct span){0}, (struct text){0}, (struct text){0});
}

static struct exchange *pop(struct connection *connection) {
  struct exchange *oldest = connection->first;
  if (!oldest) return NULL;
  connection->first = oldest->next;
  if (!connection->first) connection->last = &connection->first;
  connection->waiting--;
  return oldest;
}

static struct exchange *new_exchange(struct connection *connection, struct text key) {
  struct exchange *exchange = malloc(sizeof *exchange + key.length);
  *exchange = (struct exchange){.lost_bytes = connection->lost_bytes, .key_length = key.length};
  if (key.length > 0) memcpy(exchange->key, key.bytes, key.length);
  connection->lost_bytes = 0;
  return exchange;
}

// Reports what is not complete, in the order of the requests.
static void give_up(struct connection *connection, bool aborted) {
  struct exchange *exchange = connection->answering;
  connection->answering = NULL;
  if (exchange) {
    exchange->lost_bytes += connection->server.lost_bytes;
    report(connection, exchange, ABORTED, connection->server.message, (struct text){0}, (struct text){0});
  }
  while ((exchange = pop(connection))) report_unanswered(connection, exchange, aborted);
}

// From here on a side is read from the middle of something.
static void lost_order(struct connection *connection, struct stream *stream) {
  give_up(connection, false);
  connection->unsure = true;
  stream->message = (struct span){0};
  stream->lost_bytes = 0;
}

static void end_message(struct stream *stream) {
  stream->message = (struct span){0};
  stream->lost_bytes = 0;
}

static void end_request(struct connection *connection) {
  struct stream *client = &connection->client;
  struct exchange *newest = connection->first;
  while (newest && newest->next) newest = newest->next;
  if (newest && newest->request_open) {
    newest->request_open = false;
    newest->request = client->message;
    newest->lost_bytes += client->lost_bytes;
    if (newest->noreply || newest->command->shape == QUIT || connection->unsure) {
      // No response comes, or none that is known to be its own. It is the newest: the ones before stay.
      struct exchange **place = &connection->first;
      while (*place != newest) place = &(*place)->next;
      *place = NULL;
      connection->last = place;
      connection->waiting--;
      report_unanswered(connection, newest, false);
    }
  }
  end_message(client);
}

static void expect_value(struct stream *stream, uint64_t size) {
  stream->stage = VALUE;
  stream->value_end = stream->position + size;
}

// A line of the client; false if it is no command.
static bool request_line(struct connection *connection, struct text line) {
  struct words words = split(line);
  const struct command *command = words.count > 0 ? command_named(words.word[0]) : NULL;
  if (!command) return false;
  if (connection->waiting >= MAX_WAITING) lost_order(connection, &connection->server);
  // One that asks again when its last response was lost has had it; what comes now is the answer to this.
  if (!connection->pipelined) connection->unsure = false;
  if (connection->waiting > 0 || connection->answering) connection->pipelined = true;
  struct text key = {0};
  size_t place = key_place(command->shape);
  if (place > 0 && place < words.count) key = words.word[place];
  if (key.length > MAX_KEY) key.length = MAX_KEY;
  struct exchange *exchange = new_exchange(connection, key);
  exchange->command = command;
  exchange->request_open = true;
  bool retrieval = command->shape == RETRIEVE || command->shape == RETRIEVE_AND_TOUCH;
  if (key.length > 0) exchange->keys = retrieval ? words.count - place : 1;
  exchange->noreply = !retrieval && words.count > 1 && is(words.last, "noreply");
  exchange->has_value =
      command->shape == STORE && words.count >= 5 && number(words.word[4], MAX_VALUE, &exchange->value_size);
  *connection->last = exchange;
  connection->last = &exchange->next;
  connection->waiting++;
  if (exchange->has_value) {
    expect_value(&connection->client, exchange->value_size);
  } else {
    end_request(connection);
  }
  return true;
}

static struct exchange *answering(struct connection *connection) {
  if (!connection->answering && !connection->unsure) connection->answering = pop(connection);
  if (!connection->answering) connection->answering = new_exchange(connection, (struct text){0});
  return connection->answering;
}

// A line of the server; false if it is of no response.
static bool response_line(struct connection *connection, struct text line) {
  struct words words = split(line);
  if (words.count == 0) return false;
  uint64_t value;
  if (is(words.word[0], "VALUE")) {
    // VALUE <key> <flags> <bytes> [<cas unique>]
    if (words.count < 4 || !number(words.word[3], MAX_VALUE, &value)) return false;
    struct exchange *exchange = answering(connection);
    exchange->hits++;
    exchange->returned_size += value;
    expect_value(&connection->server, value);
    return true;
  }
  if (is(words.word[0], "STAT")) {
    answering(connection)->is_stats = true;
    return true;
  }
  struct text status = words.word[0], error = {0};
  bool failed = false;
  if (words.count == 1 && number(status, UINT64_MAX, &value)) {
    status = literal("NUMBER");
  } else {
    size_t at = 0;
    while (at < FINALS && !is(status, finals[at])) at++;
    if (at == FINALS) return false;
    failed = at >= FIRST_ERROR;
    if (failed && line.length > status.length) {
      error = (struct text){line.bytes + status.length + 1, line.length - status.length - 1};
    }
  }
  struct exchange *exchange = answering(connection);
  connection->answering = NULL;
  exchange->lost_bytes += connection->server.lost_bytes;
  report(connection, exchange, failed ? ERROR : OK, connection->server.message, status, error);
  end_message(&connection->server);
  return true;
}

// A whole line, its ending included.
static void take_line(struct connection *connection, struct stream *stream, struct text line) {
  struct text content = {line.bytes, line.length - 1};
  if (content.length > 0 && content.bytes[content.length - 1] == '\r') content.length--;
  bool known;
  if (stream->stage == VALUE_END) {
    stream->stage = LINE;
    known = content.length == 0;
    if (known && stream->side == CLIENT) end_request(connection);
  } else if (stream->stage == DISCARD) {
    stream->stage = LINE;
    known = false;
  } else {
    known = stream->side == CLIENT ? request_line(connection, content) : response_line(connection, content);
  }
  if (!known) {
    add_undecoded(line.length);
    stream->message.bytes -= line.length;
    lost_order(connection, stream);
  }
}

// What is held of a line belongs to no exchange.
static void drop_line(struct stream *stream) {
  add_undecoded(stream->line_length);
  stream->message.bytes -= stream->line_length;
  free(stream->line);
  stream->line = NULL;
  stream->line_length = 0;
}

static void consume(struct stream *stream, uint64_t bytes, uint64_t time_ns) {
  if (stream->message.bytes == 0) stream->message.start_ns = time_ns;
  stream->message.end_ns = time_ns;
  stream->message.bytes += bytes;
  stream->position += bytes;
}

static void take_data(struct connection *connection, struct stream *stream, struct text data, uint64_t position,
                      uint64_t time_ns) {
  if (!stream->started) stream->position = position;
  stream->started = true;
  if (stream->stage == VALUE && position > stream->position && position <= stream->value_end) {
    // podtap left out what it was asked to.
    consume(stream, position - stream->position, time_ns);
  }
  while (data.length > 0) {
    size_t taken = data.length;
    if (stream->stage == VALUE) {
      if (taken > stream->value_end - stream->position) taken = (size_t)(stream->value_end - stream->position);
      if (taken > 0) consume(stream, taken, time_ns);
      if (stream->position == stream->value_end) stream->stage = VALUE_END;
    } else {
      const uint8_t *newline = memchr(data.bytes, '\n', data.length);
      if (newline) taken = (size_t)(newline - data.bytes) + 1;
      consume(stream, taken, time_ns);
      struct text line = {data.bytes, taken};
      if (stream->stage == DISCARD && !newline) {
        add_undecoded(taken);
        stream->message.bytes -= taken;
      } else if (stream->line_length + taken > MAX_LINE) {
        drop_line(stream);
        add_undecoded(taken);
        stream->message.bytes -= taken;
        lost_order(connection, stream);
        stream->stage = newline ? LINE : DISCARD;
      } else if (!newline || stream->line_length > 0) {
        stream->line = realloc(stream->line, stream->line_length + taken);
        memcpy(stream->line + stream->line_length, data.bytes, taken);
        stream->line_length += taken;
        line = (struct text){stream->line, stream->line_length};
      }
      if (newline && line.length <= MAX_LINE) {
        uint8_t *held = stream->line;
        stream->line = NULL;
        stream->line_length = 0;
        take_line(connection, stream, line);
        free(held);
      }
    }
    data.bytes += taken;
    data.length -= taken;
  }
  if (stream->stage == VALUE && stream->value_end - stream->position > WORTH_A_DEMAND &&
      stream->demanded != stream->value_end) {
    // The line's end behind the value still comes, and with it the time of the last byte.
    demand_skip(connection->id, stream->side, stream->demanded = stream->value_end);
  }
}

static void take_gap(struct connection *connection, struct stream *stream, uint64_t length, uint64_t position,
                     uint64_t time_ns) {
  if (!stream->started) stream->position = position;
  stream->started = true;
  if (stream->stage == VALUE && position >= stream->position && length <= stream->value_end &&
      position <= stream->value_end - length) {
    // Inside a value: nothing else is lost.
    consume(stream, position + length - stream->position, time_ns);
    stream->lost_bytes += length;
    if (stream->position == stream->value_end) stream->stage = VALUE_END;
    return;
  }
  drop_line(stream);
  stream->stage = LINE;
  struct exchange *exchange = connection->answering ? connection->answering : connection->first;
  *(exchange ? &exchange->lost_bytes : &connection->lost_bytes) += length;
  lost_order(connection, stream);
  stream->position = position + length;
}

static void close_connection(struct connection *connection, bool reset) {
  drop_line(&connection->client);
  drop_line(&connection->server);
  give_up(connection, reset);
  connections[connection->id] = NULL;
  free(connection);
}

static void open_connection(uint32_t id) {
  if (id >= MAX_CONNECTIONS) return;
  if (id >= connections_length) {
    connections = realloc(connections, (id + 1) * sizeof *connections);
    memset(connections + connections_length, 0, (id + 1 - connections_length) * sizeof *connections);
    connections_length = id + 1;
  }
  if (connections[id]) close_connection(connections[id], false);
  struct connection *connection = malloc(sizeof *connection);
  *connection = (struct connection){.id = id, .client.side = CLIENT, .server.side = SERVER};
  connection->last = &connection->first;
  connections[id] = connection;
}

void exports_podtap_decoder_decoder_feed(podtap_decoder_types_batch_t *batch, podtap_decoder_types_output_t *output) {
  for (size_t at = 0; at < batch->opened.len; at++) open_connection(batch->opened.ptr[at].id);
  size_t offset = 0;
  for (size_t at = 0; at < batch->kinds.len; at++) {
    uint8_t kind = batch->kinds.ptr[at];
    uint32_t id = batch->connections.ptr[at], length = batch->lengths.ptr[at];
    struct text data = {batch->data.ptr + offset, 0};
    if ((kind & ~SERVER) == 0) {
      if (length > batch->data.len - offset) abort();
      data.length = length;
      offset += length;
    }
    struct connection *connection = id < connections_length ? connections[id] : NULL;
    if (!connection) continue;
    struct stream *stream = kind & SERVER ? &connection->server : &connection->client;
    uint64_t position = batch->positions.ptr[at], time_ns = batch->times.ptr[at];
    switch (kind & ~SERVER) {
      case 0: take_data(connection, stream, data, position, time_ns); break;
      case 1: take_gap(connection, stream, length, position, time_ns); break;
      case 3: close_connection(connection, length == 1); break;
      default: break;  // the end of one side says nothing that `closed` does not
    }
  }
  podtap_decoder_types_batch_free(batch);
  take_output(output);
}

// Does a line of the client open this protocol? Errs towards no: single words are those of many protocols.
static bool opens(struct text line) {
  struct words words = split(line);
  const struct command *command = words.count > 0 ? command_named(words.word[0]) : NULL;
  uint64_t value;
  if (!command || command->shape == QUIT) return false;
  if (command->shape == STORE) return words.count >= 5 && number(words.word[4], MAX_VALUE, &value);
  return words.count > key_place(command->shape);
}

podtap_decoder_types_verdict_t exports_podtap_decoder_decoder_probe(bool from_server, plugin_list_u8_t *head) {
  const uint8_t *newline = memchr(head->ptr, '\n', head->len);
  struct text line = {head->ptr, newline ? (size_t)(newline - head->ptr) : head->len};
  podtap_decoder_types_verdict_t verdict = PODTAP_DECODER_TYPES_VERDICT_NO;
  if (newline) {
    if (line.length > 0 && line.bytes[line.length - 1] == '\r') line.length--;
    struct words words = split(line);
    // Of a server's first lines only those that nobody else sends.
    bool known = from_server ? words.count > 0 && (is(words.word[0], "STORED") || is(words.word[0], "NOT_STORED") ||
                                                   (is(words.word[0], "VALUE") && words.count >= 4))
                             : opens(line);
    if (known) verdict = PODTAP_DECODER_TYPES_VERDICT_YES;
  } else {
    const char *starts[] = {"STORED", "NOT_STORED", "VALUE"};
    size_t count = from_server ? 3 : COMMANDS;
    for (size_t at = 0; at < count && line.length <= MAX_LINE; at++) {
      struct text start = literal(from_server ? starts[at] : commands[at].name);
      size_t shorter = line.length < start.length ? line.length : start.length;
      bool word_ends = line.length <= start.length || line.bytes[start.length] == ' ' || line.bytes[start.length] == '\r';
      if (word_ends && memcmp(line.bytes, start.bytes, shorter) == 0) verdict = PODTAP_DECODER_TYPES_VERDICT_NEED_MORE;
    }
  }
  plugin_list_u8_free(head);
  return verdict;
}

bool exports_podtap_decoder_decoder_configure(plugin_string_t *config, plugin_string_t *error) {
  struct text text = {config->ptr, config->len};
  bool good = text.length == 0 || is(text, "{}");
  if (!good) plugin_string_dup(error, "memcached takes no configuration: remove its section");
  plugin_string_free(config);
  return good;
}

// The bindings free what they are given: all of it is copied.
void exports_podtap_decoder_decoder_describe(podtap_decoder_types_descriptor_t *descriptor) {
  plugin_string_dup(&descriptor->name, "memcached");
  plugin_string_dup(&descriptor->version, "0.1.0");
  plugin_string_dup(&descriptor->doc, "memcached's text protocol");
  descriptor->protocols.len = 1;
  descriptor->protocols.ptr = malloc(sizeof *descriptor->protocols.ptr);
  plugin_string_dup(descriptor->protocols.ptr, "memcached");
  descriptor->ports.len = 1;
  descriptor->ports.ptr = malloc(sizeof *descriptor->ports.ptr);
  descriptor->ports.ptr[0] = 11211;
  descriptor->attributes.len = ATTRIBUTES;
  descriptor->attributes.ptr = malloc(ATTRIBUTES * sizeof *descriptor->attributes.ptr);
  for (size_t at = 0; at < ATTRIBUTES; at++) {
    plugin_string_dup(&descriptor->attributes.ptr[at].name, attributes[at].name);
    descriptor->attributes.ptr[at].kind = attributes[at].kind;
    plugin_string_dup(&descriptor->attributes.ptr[at].doc, attributes[at].doc);
  }
  descriptor->status = (plugin_option_u16_t){true, STATUS};
}
