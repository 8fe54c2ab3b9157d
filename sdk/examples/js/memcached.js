// A podtap decoder of memcached's text protocol (doc/protocol.txt of memcached), in JavaScript.
//
// In: what both sides of a connection sent, cut anywhere (`batch` of wit/podtap-decoder.wit). Out: an exchange for each
// command and its response, paired in order. Values are passed over, never kept. It knows the commands in `COMMANDS`
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
//
// QuickJS's bindings give 64-bit numbers as JavaScript's only kind of number. Positions and sizes are exact up to 2^53;
// times, in ns since 1970, are not: they come and go in steps of 256 ns.

const MAX_LINE = 8192; // longer lines are passed over; a get of many keys may be long
const MAX_KEY = 250; // memcached's own limit
const MAX_WAITING = 256; // commands of a connection without response
const WORTH_A_DEMAND = 2048; // bytes of a value that are cheaper not to be given
const MAX_VALUE = 2 ** 30; // memcached's own limit of its -I

const ATTRIBUTES = [
  ["memcached.status", "text", "First word of the response's last line; NUMBER for the new value of a counter."],
  ["memcached.keys", "uint", "Keys that the command names."],
  ["memcached.value_size", "uint", "Size of the value to store, bytes."],
  ["memcached.hits", "uint", "Values in the response to a retrieval."],
  ["memcached.returned_size", "uint", "Size of the values in the response, bytes."],
  ["memcached.noreply", "flag", "The client asked for no response."],
  ["memcached.error", "text", "The server's words on its error."],
];
const [STATUS, KEYS, VALUE_SIZE, HITS, RETURNED_SIZE, NOREPLY, ERROR_MESSAGE] = ATTRIBUTES.keys();

// What comes after a command's name. `key`: the place of the first key among the words; 0 without key.
const STORE = { key: 1 };
const RETRIEVE = { key: 1, retrieval: true };
const RETRIEVE_AND_TOUCH = { key: 2, retrieval: true };
const ONE_KEY = { key: 1 };
const NO_KEY = { key: 0 };
const QUIT = { key: 0 };
const COMMANDS = new Map(Object.entries({
  get: RETRIEVE, gets: RETRIEVE, gat: RETRIEVE_AND_TOUCH, gats: RETRIEVE_AND_TOUCH,
  set: STORE, add: STORE, replace: STORE, append: STORE, prepend: STORE, cas: STORE,
  delete: ONE_KEY, incr: ONE_KEY, decr: ONE_KEY, touch: ONE_KEY,
  flush_all: NO_KEY, version: NO_KEY, verbosity: NO_KEY, stats: NO_KEY, quit: QUIT,
}));

// Lines that end a response, by their first word. VALUE and STAT lines come before.
const FAILURES = new Set(["ERROR", "CLIENT_ERROR", "SERVER_ERROR"]);
const FINALS = new Set([
  "END", "STORED", "NOT_STORED", "EXISTS", "NOT_FOUND", "DELETED", "TOUCHED", "OK", "VERSION", ...FAILURES,
]);

const OK = 0, ERROR = 1, NO_RESPONSE = 2, ABORTED = 3, UNMATCHED = 4;
const CLIENT = 0, SERVER = 128; // as in the contract's kinds
const LINE = 0, VALUE = 1, VALUE_END = 2, DISCARD = 3;
const LF = 10, CR = 13;

// Lines are read as Latin-1, a character for each byte, so that no byte is lost on the way.
function text(bytes) {
  let result = "";
  for (let at = 0; at < bytes.length; at++) result += String.fromCharCode(bytes[at]);
  return result;
}

// Digits only, at most `max`; else NaN.
function number(word, max) {
  const value = /^[0-9]{1,20}$/.test(word) ? Number(word) : NaN;
  return value <= max ? value : NaN;
}

const words = (line) => line.split(" ").filter((word) => word !== "");

const emptyOutput = () => ({
  exchangeConnections: [], protocols: [], outcomes: [], times: [], sizes: [], textLengths: [], attributeCounts: [],
  attributeIds: [], attributeValues: [], text: [], demandConnections: [], demandKinds: [], demandPositions: [],
  undecodedBytes: 0,
});
let output = emptyOutput();

function addText(piece) {
  for (let at = 0; at < piece.length; at++) output.text.push(piece.charCodeAt(at));
}

// First and last byte's time (0: not seen), and how many bytes.
const span = () => ({ startNs: 0, endNs: 0, bytes: 0 });

class Stream {
  constructor(side) {
    this.side = side;
    this.stage = LINE;
    this.position = null; // of the next byte
    this.valueEnd = 0; // position
    this.demanded = 0; // position
    this.message = span(); // so far
    this.lostBytes = 0; // of the message
    this.line = ""; // what came of a line that is not complete
  }

  startAt(position) {
    if (this.position === null) this.position = position;
  }

  consume(bytes, timeNs) {
    if (this.message.bytes === 0) this.message.startNs = timeNs;
    this.message.endNs = timeNs;
    this.message.bytes += bytes;
    this.position += bytes;
  }

  undecoded(bytes) {
    output.undecodedBytes += bytes;
    this.message.bytes -= bytes;
  }

  // What is held of a line belongs to no exchange.
  dropLine() {
    this.undecoded(this.line.length);
    this.line = "";
  }

  expectValue(size) {
    this.stage = VALUE;
    this.valueEnd = this.position + size;
  }

  endMessage() {
    this.message = span();
    this.lostBytes = 0;
  }
}

class Connection {
  constructor(id) {
    this.id = id;
    this.client = new Stream(CLIENT);
    this.server = new Stream(SERVER);
    this.waiting = []; // oldest first
    this.answering = null; // taken from the waiting ones, or made up
    this.pipelined = false; // has asked twice at once
    this.unsure = false; // the next response may be anybody's
    this.lostBytes = 0; // outside of exchanges, noted in the next one
  }

  // Reports an exchange. `status` is the first word of the response's last line, where that was seen.
  report(exchange, outcome, response, status, error) {
    const { operation, key, request } = exchange;
    output.exchangeConnections.push(this.id);
    output.protocols.push(0);
    output.outcomes.push(operation === "" ? UNMATCHED : outcome);
    output.times.push(request.startNs, request.endNs, response.startNs, response.endNs);
    output.sizes.push(request.bytes, response.bytes, exchange.lostBytes);
    output.textLengths.push(operation.length, key.length, 0); // no summary: podtap joins the two
    addText(operation);
    addText(key);
    let count = 0;
    const add = (attribute, value) => {
      count++;
      output.attributeIds.push(attribute);
      output.attributeValues.push(typeof value === "string" ? value.length : Number(value));
      if (typeof value === "string") addText(value);
    };
    const retrieval = COMMANDS.get(operation)?.retrieval;
    if (status !== "") add(STATUS, status);
    if (exchange.keys > 0) add(KEYS, exchange.keys);
    if (exchange.valueSize !== null) add(VALUE_SIZE, exchange.valueSize);
    if (exchange.hits > 0 || (retrieval && status === "END")) add(HITS, exchange.hits);
    if (exchange.hits > 0) add(RETURNED_SIZE, exchange.returnedSize);
    if (exchange.noreply) add(NOREPLY, true);
    if (error !== "") add(ERROR_MESSAGE, error);
    output.attributeCounts.push(count);
  }

  reportUnanswered(exchange, aborted) {
    if (exchange.open) exchange.request = { ...this.client.message, endNs: 0 };
    this.report(exchange, aborted || exchange.open ? ABORTED : NO_RESPONSE, span(), "", "");
  }

  // `operation` is empty where the request was not captured.
  newExchange(operation, key) {
    const { lostBytes } = this;
    this.lostBytes = 0;
    return {
      operation, key, open: false, noreply: false, keys: 0, valueSize: null, hits: 0, returnedSize: 0, lostBytes,
      request: span(),
    };
  }

  // Reports what is not complete, in the order of the requests.
  giveUp(aborted) {
    if (this.answering !== null) {
      this.answering.lostBytes += this.server.lostBytes;
      this.report(this.answering, ABORTED, this.server.message, "", "");
      this.answering = null;
    }
    for (const exchange of this.waiting) this.reportUnanswered(exchange, aborted);
    this.waiting = [];
  }

  // From here on a side is read from the middle of something.
  lostOrder(stream) {
    this.giveUp(false);
    this.unsure = true;
    stream.endMessage();
  }

  endRequest() {
    const newest = this.waiting.at(-1);
    if (newest !== undefined && newest.open) {
      newest.open = false;
      newest.request = this.client.message;
      newest.lostBytes += this.client.lostBytes;
      if (newest.noreply || newest.operation === "quit" || this.unsure) {
        // No response comes, or none that is known to be its own.
        this.waiting.pop();
        this.reportUnanswered(newest, false);
      }
    }
    this.client.endMessage();
  }

  // A line of the client; false if it is no command.
  requestLine(line) {
    const parts = words(line);
    const shape = COMMANDS.get(parts[0]);
    if (shape === undefined) return false;
    if (this.waiting.length >= MAX_WAITING) this.lostOrder(this.server);
    // One that asks again when its last response was lost has had it; what comes now is the answer to this.
    if (!this.pipelined) this.unsure = false;
    if (this.waiting.length > 0 || this.answering !== null) this.pipelined = true;
    const key = shape.key > 0 ? (parts[shape.key] ?? "").slice(0, MAX_KEY) : "";
    const exchange = this.newExchange(parts[0], key);
    exchange.open = true;
    if (key !== "") exchange.keys = shape.retrieval ? parts.length - shape.key : 1;
    exchange.noreply = !shape.retrieval && parts.length > 1 && parts.at(-1) === "noreply";
    const size = shape === STORE && parts.length >= 5 ? number(parts[4], MAX_VALUE) : NaN;
    this.waiting.push(exchange);
    if (Number.isNaN(size)) {
      this.endRequest();
    } else {
      exchange.valueSize = size;
      this.client.expectValue(size);
    }
    return true;
  }

  answered() {
    if (this.answering === null && !this.unsure) this.answering = this.waiting.shift() ?? null;
    this.answering ??= this.newExchange("", "");
    return this.answering;
  }

  // A line of the server; false if it is of no response.
  responseLine(line) {
    const parts = words(line);
    if (parts.length === 0) return false;
    let status = parts[0];
    if (status === "VALUE") {
      // VALUE <key> <flags> <bytes> [<cas unique>]
      const size = parts.length >= 4 ? number(parts[3], MAX_VALUE) : NaN;
      if (Number.isNaN(size)) return false;
      const exchange = this.answered();
      exchange.hits++;
      exchange.returnedSize += size;
      this.server.expectValue(size);
      return true;
    }
    if (status === "STAT") {
      this.answered();
      return true;
    }
    let error = "";
    if (parts.length === 1 && /^[0-9]{1,20}$/.test(status) && BigInt(status) < 2n ** 64n) {
      status = "NUMBER";
    } else if (!FINALS.has(status)) {
      return false;
    } else if (FAILURES.has(status)) {
      error = line.slice(status.length + 1);
    }
    const exchange = this.answered();
    this.answering = null;
    exchange.lostBytes += this.server.lostBytes;
    this.report(exchange, FAILURES.has(status) ? ERROR : OK, this.server.message, status, error);
    this.server.endMessage();
    return true;
  }

  // A whole line, its ending included.
  takeLine(stream, line) {
    const content = line.slice(0, line.charCodeAt(line.length - 2) === CR ? -2 : -1);
    let known = false;
    if (stream.stage === VALUE_END) {
      stream.stage = LINE;
      known = content === "";
      if (known && stream.side === CLIENT) this.endRequest();
    } else if (stream.stage === DISCARD) {
      stream.stage = LINE;
    } else {
      known = stream.side === CLIENT ? this.requestLine(content) : this.responseLine(content);
    }
    if (!known) {
      stream.undecoded(line.length);
      this.lostOrder(stream);
    }
  }

  takeData(stream, data, position, timeNs) {
    stream.startAt(position);
    if (stream.stage === VALUE && position > stream.position && position <= stream.valueEnd) {
      // podtap left out what it was asked to.
      stream.consume(position - stream.position, timeNs);
    }
    for (let at = 0; at < data.length; ) {
      let taken = data.length - at;
      if (stream.stage === VALUE) {
        taken = Math.min(taken, stream.valueEnd - stream.position);
        if (taken > 0) stream.consume(taken, timeNs);
        if (stream.position === stream.valueEnd) stream.stage = VALUE_END;
      } else {
        const newline = data.indexOf(LF, at);
        if (newline >= 0) taken = newline + 1 - at;
        stream.consume(taken, timeNs);
        if (stream.stage === DISCARD && newline < 0) {
          stream.undecoded(taken);
        } else if (stream.line.length + taken > MAX_LINE) {
          stream.dropLine();
          stream.undecoded(taken);
          this.lostOrder(stream);
          stream.stage = newline >= 0 ? LINE : DISCARD;
        } else {
          stream.line += text(data.subarray(at, at + taken));
          if (newline >= 0) {
            const { line } = stream;
            stream.line = "";
            this.takeLine(stream, line);
          }
        }
      }
      at += taken;
    }
    const { stage, valueEnd } = stream;
    if (stage === VALUE && valueEnd - stream.position > WORTH_A_DEMAND && stream.demanded !== valueEnd) {
      // The line's end behind the value still comes, and with it the time of the last byte.
      stream.demanded = valueEnd;
      output.demandConnections.push(this.id);
      output.demandKinds.push(stream.side);
      output.demandPositions.push(valueEnd);
    }
  }

  takeGap(stream, length, position, timeNs) {
    stream.startAt(position);
    if (stream.stage === VALUE && position >= stream.position && position + length <= stream.valueEnd) {
      // Inside a value: nothing else is lost.
      stream.consume(position + length - stream.position, timeNs);
      stream.lostBytes += length;
      if (stream.position === stream.valueEnd) stream.stage = VALUE_END;
      return;
    }
    stream.dropLine();
    stream.stage = LINE;
    (this.answering ?? this.waiting[0] ?? this).lostBytes += length;
    this.lostOrder(stream);
    stream.position = position + length;
  }

  close(reset) {
    this.client.dropLine();
    this.server.dropLine();
    this.giveUp(reset);
    connections.delete(this.id);
  }
}

const connections = new Map();

// Does a line of the client open this protocol? Errs towards no: single words are those of many protocols.
function opens(line) {
  const parts = words(line);
  const shape = COMMANDS.get(parts[0]);
  if (shape === undefined || shape === QUIT) return false;
  if (shape === STORE) return parts.length >= 5 && !Number.isNaN(number(parts[4], MAX_VALUE));
  return parts.length > shape.key;
}

export const decoder = {
  describe: () => ({
    name: "memcached",
    version: "0.1.0",
    doc: "memcached's text protocol",
    protocols: ["memcached"],
    ports: [11211],
    attributes: ATTRIBUTES.map(([name, kind, doc]) => ({ name, kind, doc })),
    status: STATUS,
  }),

  // An error is thrown: the contract's result<_, string>.
  configure(config) {
    if (config !== "" && config !== "{}") throw "memcached takes no configuration: remove its section";
  },

  probe(fromServer, bytes) {
    const newline = bytes.indexOf(LF);
    const line = text(bytes.slice(0, newline < 0 ? MAX_LINE + 1 : newline));
    if (newline >= 0) {
      const content = line.endsWith("\r") ? line.slice(0, -1) : line;
      const [first, ...rest] = words(content);
      // Of a server's first lines only those that nobody else sends.
      const known = first === "STORED" || first === "NOT_STORED" || (first === "VALUE" && rest.length >= 3);
      return (fromServer ? known : opens(content)) ? "yes" : "no";
    }
    const starts = fromServer ? ["STORED", "NOT_STORED", "VALUE"] : [...COMMANDS.keys()];
    const may = (start) => start.startsWith(line) || line.startsWith(start + " ") || line.startsWith(start + "\r");
    return line.length <= MAX_LINE && starts.some(may) ? "need-more" : "no";
  },

  feed(batch) {
    for (const { id } of batch.opened) {
      connections.get(id)?.close(false);
      connections.set(id, new Connection(id));
    }
    const { data } = batch;
    let offset = 0;
    for (let at = 0; at < batch.kinds.length; at++) {
      const kind = batch.kinds[at];
      const length = batch.lengths[at];
      const start = offset;
      if ((kind & ~SERVER) === 0) offset += length;
      const connection = connections.get(batch.connections[at]);
      if (connection === undefined) continue;
      const stream = kind & SERVER ? connection.server : connection.client;
      const position = batch.positions[at];
      const timeNs = batch.times[at];
      switch (kind & ~SERVER) {
        case 0: connection.takeData(stream, data.subarray(start, offset), position, timeNs); break;
        case 1: connection.takeGap(stream, length, position, timeNs); break;
        case 3: connection.close(length === 1); break;
        default: break; // the end of one side says nothing that `closed` does not
      }
    }
    const result = output;
    output = emptyOutput();
    return result;
  },
};
