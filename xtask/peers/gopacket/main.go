// A peer for podtap's benchmarks: HTTP/1.1 exchanges from packets with gopacket, as one writes it when speed matters.
// Layers, connections and requests are used again, so that nothing is allocated for a packet or an exchange.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcap"
)

const maxHeld, maxLine, maxWaiting = 64, 64 << 10, 1024
const idle, sweep = int64(5 * time.Minute), int64(time.Minute)

// What comes next in a direction. Up to trailer it comes in lines.
const (
	first = iota
	header
	chunkSize
	chunkEnd
	trailer
	body
	untilClose
	opaque
)

type endpoint struct{ port, low, high uint64 } // IPv4 is mapped into IPv6

type held struct {
	seq  uint32
	data []byte
}

type request struct {
	next          *request
	start, size   int64
	head, connect bool
	text          []byte // method and path as JSON
}

type stream struct {
	next, finAt               uint32
	synced, fin, done         bool
	chunked                   bool
	state                     int
	status                    int64
	start, size, length, left int64
	line                      []byte   // the begin of a line that goes on in the next segment
	held                      []held   // out of order, sorted
	open                      *request // the request that is being read
}

type conn struct {
	key         [2]endpoint
	streams     [2]stream
	client      int // whose stream has the requests, -1: not known
	first, last *request
	waiting     int
	seen        int64
	names       []byte // client and server as JSON
}

type tracker struct {
	conns              map[[2]endpoint]*conn
	spareConns         []*conn
	spare              *request
	out                *bufio.Writer
	line, clock        []byte
	second, now, swept int64
	exchanges          int
}

func (t *tracker) segment(from, to endpoint, tcp *layers.TCP, now int64) {
	data := tcp.Payload
	if len(data) == 0 && !tcp.SYN && !tcp.FIN && !tcp.RST {
		return
	}
	if t.now = now; now-t.swept > sweep {
		t.swept = now
		for _, c := range t.conns {
			if now-c.seen > idle {
				t.remove(c)
			}
		}
	}
	key, side, seq := [2]endpoint{from, to}, 0, tcp.Seq
	if from.port > to.port || from.port == to.port && (from.low > to.low || from.low == to.low && from.high > to.high) {
		key, side = [2]endpoint{to, from}, 1
	}
	c := t.conns[key]
	if tcp.SYN {
		if seq++; c != nil && !tcp.ACK && c.streams[side].synced && c.streams[side].next != seq {
			t.remove(c)
			c = nil
		}
	}
	if c == nil {
		if len(data) == 0 && !tcp.SYN {
			return
		}
		if n := len(t.spareConns); n > 0 {
			c, t.spareConns = t.spareConns[n-1], t.spareConns[:n-1]
		} else {
			c = new(conn)
		}
		c.key, c.client, t.conns[key] = key, -1, c
	}
	c.seen = now
	s, other := &c.streams[side], &c.streams[1-side]
	if !s.synced {
		s.synced, s.next = true, seq
	}
	if tcp.FIN {
		s.fin, s.finAt = true, seq+uint32(len(data))
	}
	if len(other.held) > 0 && tcp.ACK && int32(tcp.Ack-other.held[0].seq) > 0 {
		t.giveUp(c, 1-side) // what is missing has arrived, but was not captured
	}
	if len(data) > 0 && int32(seq-s.next) > 0 {
		at, _ := slices.BinarySearchFunc(s.held, seq, func(h held, seq uint32) int { return int(int32(h.seq - seq)) })
		if s.held = slices.Insert(s.held, at, held{seq, bytes.Clone(data)}); len(s.held) > maxHeld {
			t.giveUp(c, side)
		}
	} else {
		t.advance(c, side, seq, data)
	}
	if s.fin && !s.done && int32(s.next-s.finAt) >= 0 {
		t.end(c, side)
	}
	if tcp.RST || s.done && other.done {
		t.remove(c)
	}
}

// advance takes a segment without what was there before, and those held that follow.
func (t *tracker) advance(c *conn, side int, seq uint32, data []byte) {
	s, n := &c.streams[side], 0
	for {
		if old := s.next - seq; uint32(len(data)) > old {
			s.next += uint32(len(data)) - old
			t.consume(c, side, data[old:])
		}
		if n == len(s.held) || int32(s.held[n].seq-s.next) > 0 {
			break
		}
		seq, data = s.held[n].seq, s.held[n].data
		n++
	}
	if n > 0 {
		s.held = slices.Delete(s.held, 0, n)
	}
}

// giveUp goes on behind a hole. In a body that is no harm.
func (t *tracker) giveUp(c *conn, side int) {
	s := &c.streams[side]
	hole := int64(s.held[0].seq - s.next)
	if s.state == untilClose || s.state == body && hole < s.left {
		s.left, s.size = s.left-hole, s.size+hole
	} else if s.state != opaque {
		t.lose(c)
	}
	s.next = s.held[0].seq
	t.advance(c, side, s.next, nil)
}

func (t *tracker) end(c *conn, side int) {
	if c.streams[side].done = true; c.streams[side].state == untilClose {
		t.finish(c, side)
	}
}

func (t *tracker) remove(c *conn) {
	for side := range c.streams {
		for len(c.streams[side].held) > 0 {
			t.giveUp(c, side)
		}
		t.end(c, side)
	}
	t.lose(c)
	for side, s := range c.streams {
		c.streams[side] = stream{line: s.line, held: s.held}
	}
	delete(t.conns, c.key)
	c.names = c.names[:0]
	t.spareConns = append(t.spareConns, c)
}

// lose forgets what was begun. A line that begins a message, at the begin of a segment, goes on.
func (t *tracker) lose(c *conn) {
	for side := range c.streams {
		s := &c.streams[side]
		s.state, s.size, s.line, s.open = first, 0, s.line[:0], nil
	}
	for c.client = -1; c.first != nil; {
		t.pop(c)
	}
}

func (t *tracker) pop(c *conn) {
	r := c.first
	c.first, c.waiting = r.next, c.waiting-1
	r.next, t.spare = t.spare, r
}

func (t *tracker) consume(c *conn, side int, data []byte) {
	s := &c.streams[side]
	for len(data) > 0 {
		switch {
		case s.state == body:
			n := min(int64(len(data)), s.left)
			s.left, s.size, data = s.left-n, s.size+n, data[n:]
			if s.left == 0 && s.chunked {
				s.state = chunkEnd
			} else if s.left == 0 {
				t.finish(c, side)
			}
		case s.state > body:
			s.size += int64(len(data))
			return
		default:
			if s.size == 0 {
				if data[0] > 'Z' {
					return // no message begins so
				}
				s.start = t.now
			}
			end := bytes.IndexByte(data, '\n')
			if end < 0 {
				s.line, s.size = append(s.line, data...), s.size+int64(len(data))
				if len(s.line) > maxLine {
					t.lose(c)
				}
				return
			}
			line := data[:end]
			if len(s.line) > 0 {
				line = append(s.line, line...)
				s.line = line[:0]
			}
			s.size, data = s.size+int64(end)+1, data[end+1:]
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			if !t.takeLine(c, side, line) {
				t.lose(c)
				return
			}
		}
	}
}

// takeLine returns false if this is not HTTP/1.
func (t *tracker) takeLine(c *conn, side int, line []byte) bool {
	s := &c.streams[side]
	switch s.state {
	case first:
		if len(line) == 0 {
			s.size = 0
			return true
		}
		s.state, s.length, s.chunked = header, -1, false
		if side != c.client && c.first != nil {
			var digits int
			if len(line) < 12 || string(line[:7]) != "HTTP/1." {
				return false
			}
			s.status, digits = number(line[9:12], 10)
			return digits == 3
		}
		return t.request(c, side, line)
	case header:
		if len(line) == 0 {
			t.headEnd(c, side)
		} else if len(line) > 14 && line[14] == ':' && bytes.EqualFold(line[:14], []byte("content-length")) {
			value, digits := bytes.TrimSpace(line[15:]), 0
			s.length, digits = number(value, 10)
			return digits > 0 && digits == len(value)
		} else if len(line) > 17 && line[17] == ':' && bytes.EqualFold(line[:17], []byte("transfer-encoding")) {
			value := bytes.TrimSpace(line[18:])
			s.chunked = len(value) >= 7 && bytes.EqualFold(value[len(value)-7:], []byte("chunked"))
		}
	case chunkSize:
		var digits int
		if s.left, digits = number(line, 16); digits == 0 || digits == 15 {
			return false
		}
		if s.state = body; s.left == 0 {
			s.state = trailer
		}
	case chunkEnd:
		s.state = chunkSize
		return len(line) == 0
	case trailer:
		if len(line) == 0 {
			t.finish(c, side)
		}
	}
	return true
}

func (t *tracker) request(c *conn, side int, line []byte) bool {
	space, end := bytes.IndexByte(line, ' '), len(line)-9
	if space < 1 || space >= end || string(line[end:end+8]) != " HTTP/1." || c.waiting == maxWaiting {
		return false
	}
	method, path := line[:space], line[space+1:end]
	for _, b := range method {
		if (b < 'A' || b > 'Z') && b != '-' && b != '_' {
			return false
		}
	}
	if query := bytes.IndexByte(path, '?'); query >= 0 {
		path = path[:query]
	}
	r, s := t.spare, &c.streams[side]
	if r == nil {
		r = new(request)
	}
	t.spare, r.next = r.next, nil
	r.start, r.head, r.connect = s.start, string(method) == "HEAD", string(method) == "CONNECT"
	r.text = append(append(append(r.text[:0], `,"method":"`...), method...), `","path":"`...)
	r.text = append(appendEscaped(r.text, path), '"')
	if c.first == nil {
		c.first = r
	} else {
		c.last.next = r
	}
	c.last, c.client, c.waiting, s.open = r, side, c.waiting+1, r
	if len(c.names) == 0 {
		c.names = append(c.key[side].append(append(c.names, `,"client":"`...)), `","server":"`...)
		c.names = append(c.key[1-side].append(c.names), '"')
	}
	return true
}

func (t *tracker) headEnd(c *conn, side int) {
	s, r, response := &c.streams[side], c.first, side != c.client
	switch {
	case response && (s.status == 101 || r.connect && s.status/100 == 2):
		t.finish(c, side)
		c.streams[0].state, c.streams[1].state = opaque, opaque
	case response && s.status/100 == 1:
		s.state = first // and its size counts for the final response
	case response && (r.head || s.status == 204 || s.status == 304):
		t.finish(c, side)
	case s.chunked:
		s.state = chunkSize
	case s.length > 0:
		s.state, s.left = body, s.length
	case response && s.length < 0:
		s.state = untilClose
	default:
		t.finish(c, side)
	}
}

func (t *tracker) finish(c *conn, side int) {
	s := &c.streams[side]
	if side == c.client {
		if s.open != nil {
			s.open.size, s.open = s.size, nil
		}
	} else {
		if client := &c.streams[c.client]; client.open == c.first {
			c.first.size, client.open = client.size, nil // answered before it was complete
		}
		t.write(c, c.first, s)
		t.pop(c)
	}
	s.state, s.size = first, 0
}

func (t *tracker) write(c *conn, r *request, response *stream) {
	line := append(t.line[:0], `{"time":"`...)
	second, nanos := r.start/1e9, r.start%1e9
	if second != t.second || len(t.clock) == 0 {
		t.second, t.clock = second, time.Unix(second, 0).UTC().AppendFormat(t.clock[:0], "2006-01-02T15:04:05")
	}
	line = append(line, t.clock...)
	dot := len(line)
	line = strconv.AppendInt(line, 1e9+nanos, 10) // ten digits, the first makes room for the dot
	line[dot] = '.'
	line = strconv.AppendInt(append(line, `Z","duration":`...), t.now-r.start, 10)
	line = append(append(line, c.names...), r.text...)
	line = strconv.AppendInt(append(line, `,"status":`...), response.status, 10)
	line = strconv.AppendInt(append(line, `,"request_bytes":`...), r.size, 10)
	line = strconv.AppendInt(append(line, `,"response_bytes":`...), response.size, 10)
	t.line = append(line, '}', '\n')
	t.out.Write(t.line) // an error comes back from Flush
	t.exchanges++
}

func (e endpoint) append(to []byte) []byte {
	var bytes [16]byte
	binary.BigEndian.PutUint64(bytes[:], e.high)
	binary.BigEndian.PutUint64(bytes[8:], e.low)
	return netip.AddrPortFrom(netip.AddrFrom16(bytes).Unmap(), uint16(e.port)).AppendTo(to)
}

// appendEscaped makes text part of a JSON string.
func appendEscaped(to, text []byte) []byte {
	plain := 0
	for plain < len(text) && text[plain] >= ' ' && text[plain] < utf8.RuneSelf && text[plain] != '"' && text[plain] != '\\' {
		plain++
	}
	to = append(to, text[:plain]...)
	for text = text[plain:]; len(text) > 0; {
		r, n := utf8.DecodeRune(text)
		if r < ' ' || r == '"' || r == '\\' {
			to = fmt.Appendf(to, `\u%04x`, r)
		} else {
			to = utf8.AppendRune(to, r)
		}
		text = text[n:]
	}
	return to
}

// number reads at most 15 digits.
func number(text []byte, base int64) (value int64, digits int) {
	for ; digits < len(text) && digits < 15; digits++ {
		b := text[digits]
		if letter := b | 0x20; base == 16 && letter >= 'a' && letter <= 'f' {
			b = letter - 'a' + 10
		} else if b -= '0'; b > 9 {
			break
		}
		value = value*base + int64(b)
	}
	return
}

var firstLayers = map[layers.LinkType]gopacket.LayerType{
	layers.LinkTypeEthernet: layers.LayerTypeEthernet, layers.LinkTypeLinuxSLL: layers.LayerTypeLinuxSLL,
	layers.LinkTypeLinuxSLL2: layers.LayerTypeLinuxSLL2, layers.LinkTypeNull: layers.LayerTypeLoopback,
	layers.LinkTypeLoop: layers.LayerTypeLoopback, layers.LinkTypeRaw: layers.LayerTypeIPv4,
	layers.LinkTypeIPv4: layers.LayerTypeIPv4, layers.LinkTypeIPv6: layers.LayerTypeIPv4,
	12: layers.LayerTypeIPv4, // libpcap's own number for raw IP
}

func openLive(device string) (*pcap.Handle, error) {
	inactive, err := pcap.NewInactiveHandle(device)
	if err != nil {
		return nil, err
	}
	defer inactive.CleanUp()
	err = errors.Join(inactive.SetSnapLen(262144), inactive.SetPromisc(false),
		inactive.SetTimeout(50*time.Millisecond), inactive.SetBufferSize(16<<20))
	if err != nil {
		return nil, err
	}
	return inactive.Activate()
}

// run reads packets until the file ends or a signal comes.
func (t *tracker) run(handle *pcap.Handle, stop *atomic.Int64) error {
	var ethernet layers.Ethernet
	var vlan layers.Dot1Q
	var sll layers.LinuxSLL
	var sll2 layers.LinuxSLL2
	var loopback layers.Loopback
	var ip4 layers.IPv4
	var ip6 layers.IPv6
	var tcp layers.TCP
	start, ok := firstLayers[handle.LinkType()]
	if !ok {
		return fmt.Errorf("link type %v is not supported", handle.LinkType())
	}
	var container gopacket.DecodingLayerContainer = gopacket.DecodingLayerSparse(nil)
	for _, layer := range []gopacket.DecodingLayer{&ethernet, &vlan, &sll, &sll2, &loopback, &ip4, &ip6, &tcp} {
		container = container.Put(layer)
	}
	parser, raw6 := gopacket.NewDecodingLayerParser(start), gopacket.NewDecodingLayerParser(layers.LayerTypeIPv6)
	parser.SetDecodingLayerContainer(container)
	raw6.SetDecodingLayerContainer(container)
	parser.IgnoreUnsupported, raw6.IgnoreUnsupported = true, true
	decoded := make([]gopacket.LayerType, 0, 16)
	for {
		packet, info, err := handle.ZeroCopyReadPacketData()
		end := stop.Load()
		if err == pcap.NextErrorTimeoutExpired && end == 0 {
			continue
		} else if err == pcap.NextErrorTimeoutExpired || err == io.EOF {
			return nil
		} else if err != nil {
			return errors.Join(err, handle.Error())
		}
		now := info.Timestamp.UnixNano()
		if end != 0 && now > end {
			return nil
		}
		if start == layers.LayerTypeIPv4 && len(packet) > 0 && packet[0]>>4 == 6 {
			err = raw6.DecodeLayers(packet, &decoded)
		} else {
			err = parser.DecodeLayers(packet, &decoded)
		}
		n := len(decoded)
		if err != nil || n < 2 && start != layers.LayerTypeIPv4 || decoded[n-1] != layers.LayerTypeTCP {
			continue
		}
		from, to := endpoint{port: uint64(tcp.SrcPort)}, endpoint{port: uint64(tcp.DstPort)}
		if decoded[n-2] == layers.LayerTypeIPv4 {
			from.low = 0xffff<<32 | uint64(binary.BigEndian.Uint32(ip4.SrcIP))
			to.low = 0xffff<<32 | uint64(binary.BigEndian.Uint32(ip4.DstIP))
		} else {
			from.high, from.low = binary.BigEndian.Uint64(ip6.SrcIP), binary.BigEndian.Uint64(ip6.SrcIP[8:])
			to.high, to.low = binary.BigEndian.Uint64(ip6.DstIP), binary.BigEndian.Uint64(ip6.DstIP[8:])
		}
		t.segment(from, to, &tcp, now)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gopacket-http:", err)
		os.Exit(1)
	}
}

func main() {
	file := flag.String("r", "", "capture `file` to read")
	device := flag.String("i", "", "`interface` to capture from, until SIGTERM or SIGINT")
	output := flag.String("o", "", "`file` for the exchanges, a line of JSON each")
	flag.Parse()
	if (*file == "") == (*device == "") || *output == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	out, err := os.Create(*output)
	must(err)
	t := tracker{conns: make(map[[2]endpoint]*conn), out: bufio.NewWriterSize(out, 64<<10)}
	var stop atomic.Int64 // the time of the signal
	var handle *pcap.Handle
	if *file != "" {
		handle, err = pcap.OpenOffline(*file)
	} else if handle, err = openLive(*device); err == nil {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		go func() {
			<-signals
			stop.Store(time.Now().UnixNano())
		}()
		fmt.Fprintln(os.Stderr, "capturing")
	}
	must(err)
	broken := t.run(handle, &stop)
	must(errors.Join(t.out.Flush(), out.Close()))
	fmt.Fprintf(os.Stderr, "%d  exchanges\n", t.exchanges)
	if *device != "" {
		stats, err := handle.Stats()
		must(err)
		fmt.Fprintf(os.Stderr, "%d  packets dropped by kernel\n", stats.PacketsDropped)
	}
	must(broken)
}
