// A peer for podtap's benchmarks: HTTP/1.1 exchanges from packets with gopacket, as one writes it when speed matters.
// Layers and requests are used again, so that nothing is allocated for a packet or an exchange.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcap"
)

const maxHeld, maxLine, maxWaiting, idle = 64, 64 << 10, 1024, int64(5 * time.Minute)

const ( // what comes next in a stream, in lines up to trailer
	first = iota
	header
	chunkSize
	trailer
	body
	untilClose
)

type endpoint struct {
	ip   [16]byte // IPv4 is mapped into IPv6
	port uint16
}

type held struct {
	seq  uint32
	data []byte
}

type request struct {
	start, size int64
	bare        bool   // the response has no body, whatever it says
	text        []byte // method and path as JSON
}

type stream struct {
	*conn
	key                        [2]endpoint // from, to
	peer                       *stream
	next, finAt                uint32
	synced, fin, done, chunked bool
	state                      int
	start, size, status, left  int64
	line                       []byte   // the begin of a line that goes on in the next segment
	held                       []held   // out of order, sorted
	open                       *request // the request that is being read
}

type conn struct {
	streams [2]stream
	client  *stream // nil: not known
	waiting []*request
	names   []byte // client and server as JSON
	seen    int64
}

var (
	streams    = map[[2]endpoint]*stream{}
	spare      []*request
	now, swept int64
	out        *bufio.Writer
	output     []byte
	second     = int64(-1) // of clock
	clock      []byte      // the begin of a line, without the fraction of the second
	exchanges  int
)

func segment(from, to endpoint, tcp *layers.TCP) {
	data, seq, key := tcp.Payload, tcp.Seq, [2]endpoint{from, to}
	if len(data) == 0 && !tcp.SYN && !tcp.FIN && !tcp.RST {
		return
	}
	s := streams[key]
	if tcp.SYN {
		if seq++; s != nil && s.synced && s.next != seq && !tcp.ACK {
			s.remove()
			s = nil
		}
	}
	if s == nil {
		if len(data) == 0 && !tcp.SYN {
			return
		}
		c := new(conn)
		s = &c.streams[0]
		c.streams = [2]stream{{conn: c, key: key, peer: &c.streams[1]}, {conn: c, key: [2]endpoint{to, from}, peer: s}}
		streams[key], streams[s.peer.key] = s, s.peer
	}
	if s.seen = now; !s.synced {
		s.synced, s.next = true, seq
	}
	if tcp.FIN {
		s.fin, s.finAt = true, seq+uint32(len(data))
	}
	if p := s.peer; len(p.held) > 0 && tcp.ACK && int32(tcp.Ack-p.held[0].seq) > 0 {
		p.skip() // what is missing has arrived, but was not captured
	}
	if len(data) > 0 && int32(seq-s.next) > 0 {
		at, _ := slices.BinarySearchFunc(s.held, seq, func(h held, seq uint32) int { return int(int32(h.seq - seq)) })
		if s.held = slices.Insert(s.held, at, held{seq, bytes.Clone(data)}); len(s.held) > maxHeld {
			s.skip()
		}
	} else {
		s.advance(seq, data)
	}
	if s.fin && !s.done && int32(s.next-s.finAt) >= 0 {
		s.end()
	}
	if tcp.RST || s.done && s.peer.done {
		s.remove()
	}
}

// advance takes what is new in a segment, and the segments held that follow.
func (s *stream) advance(seq uint32, data []byte) {
	for {
		if old := s.next - seq; uint32(len(data)) > old {
			s.next += uint32(len(data)) - old
			s.consume(data[old:])
		}
		if len(s.held) == 0 || int32(s.held[0].seq-s.next) > 0 {
			return
		}
		seq, data = s.held[0].seq, s.held[0].data
		s.held = slices.Delete(s.held, 0, 1)
	}
}

// skip goes on behind a hole, which does no harm in a body.
func (s *stream) skip() {
	hole := int64(s.held[0].seq - s.next)
	if s.state == untilClose || s.state == body && hole < s.left {
		s.left, s.size = s.left-hole, s.size+hole
	} else {
		s.lose()
	}
	s.next = s.held[0].seq
	s.advance(s.next, nil)
}

func (s *stream) end() {
	if s.done = true; s.state == untilClose {
		s.finish()
	}
}

func (c *conn) remove() {
	for i := range c.streams {
		s := &c.streams[i]
		for len(s.held) > 0 {
			s.skip()
		}
		s.end()
		delete(streams, s.key)
	}
	c.lose()
}

// lose forgets what was begun. A segment that begins with a message goes on.
func (c *conn) lose() {
	for i := range c.streams {
		s := &c.streams[i]
		s.state, s.size, s.line, s.open = first, 0, s.line[:0], nil
	}
	spare = append(spare, c.waiting...)
	c.waiting, c.client = c.waiting[:0], nil
}

func (s *stream) consume(data []byte) {
	for len(data) > 0 {
		if s.state > body {
			s.size += int64(len(data))
			return
		}
		if s.state == body {
			n := min(int64(len(data)), s.left)
			s.left, s.size, data = s.left-n, s.size+n, data[n:]
			if s.left == 0 && s.chunked {
				s.state = chunkSize
			} else if s.left == 0 {
				s.finish()
			}
			continue
		}
		if s.size == 0 {
			if b := data[0]; b > 'Z' || b < 'A' && b != '\r' && b != '\n' {
				return // no message begins so
			}
			s.start = now
		}
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			if s.line, s.size = append(s.line, data...), s.size+int64(len(data)); len(s.line) > maxLine {
				s.lose()
			}
			return
		}
		line := data[:end]
		if s.size, data = s.size+int64(end)+1, data[end+1:]; len(s.line) > 0 {
			line = append(s.line, line...)
			s.line = line[:0]
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if !s.takeLine(line) {
			s.lose()
			return
		}
	}
}

// takeLine returns false if this is not HTTP/1.
func (s *stream) takeLine(line []byte) bool {
	switch {
	case s.state == first && len(line) == 0:
		s.size = 0
	case s.state == first:
		s.state, s.left, s.chunked = header, -1, false
		if s.client == nil || s == s.client {
			return s.request(line)
		}
		return len(s.waiting) > 0 && len(line) > 11 && string(line[:7]) == "HTTP/1." && number(&s.status, line[9:12], 10)
	case s.state == header && len(line) == 0:
		s.headEnd()
	case s.state == header && len(line) > 14 && line[14] == ':' && bytes.EqualFold(line[:14], []byte("content-length")):
		return number(&s.left, line[15:], 10)
	case s.state == header && len(line) > 17 && line[17] == ':' && bytes.EqualFold(line[:17], []byte("transfer-encoding")):
		value := bytes.TrimSpace(line[18:])
		s.chunked = bytes.EqualFold(value[max(len(value)-7, 0):], []byte("chunked"))
	case s.state == chunkSize:
		size, _, _ := bytes.Cut(line, []byte(";"))
		if !number(&s.left, size, 16) {
			return false
		}
		if s.state, s.left = body, s.left+2; s.left == 2 {
			s.state = trailer
		}
	case s.state == trailer && len(line) == 0:
		s.finish()
	}
	return true
}

func number(to *int64, text []byte, base int) bool {
	value, err := strconv.ParseUint(string(bytes.TrimSpace(text)), base, 62)
	*to = int64(value)
	return err == nil
}

func (s *stream) request(line []byte) bool {
	space, end := bytes.IndexByte(line, ' '), len(line)-9
	if space < 1 || space >= end || string(line[end:end+8]) != " HTTP/1." || len(s.waiting) == maxWaiting {
		return false
	}
	method, path := line[:space], line[space+1:end]
	if query := bytes.IndexByte(path, '?'); query >= 0 {
		path = path[:query]
	}
	if len(spare) == 0 {
		spare = append(spare, new(request))
	}
	r := spare[len(spare)-1]
	spare = spare[:len(spare)-1]
	r.start, r.bare = s.start, string(method) == "HEAD" || string(method) == "CONNECT"
	r.text = escaped(append(r.text[:0], `,"method":"`...), method)
	r.text = escaped(append(r.text, `","path":"`...), path)
	if s.client, s.open, s.waiting = s, r, append(s.waiting, r); len(s.names) == 0 {
		s.names = s.key[0].append(append(s.names, `,"client":"`...))
		s.names = append(s.key[1].append(append(s.names, `","server":"`...)), '"')
	}
	return true
}

func (s *stream) headEnd() {
	response := s != s.client
	switch {
	case response && s.status/100 == 1 && s.status != 101:
		s.state = first // and its size counts for the final response
	case response && (s.waiting[0].bare || s.status == 101 || s.status == 204 || s.status == 304):
		s.finish()
	case s.chunked:
		s.state = chunkSize
	case s.left > 0:
		s.state = body
	case response && s.left < 0:
		s.state = untilClose
	default:
		s.finish()
	}
}

func (s *stream) finish() {
	if s == s.client && s.open != nil {
		s.open.size, s.open = s.size, nil
	} else if s != s.client {
		r := s.waiting[0]
		if s.peer.open == r {
			r.size, s.peer.open = s.peer.size, nil // answered before it was complete
		}
		if at := r.start / 1e9; at != second {
			second, clock = at, time.Unix(at, 0).UTC().AppendFormat(clock[:0], `{"time":"2006-01-02T15:04:05`)
		}
		line := strconv.AppendInt(append(output[:0], clock...), 1e9+r.start%1e9, 10)
		line[len(clock)] = '.' // in place of the one
		line = strconv.AppendInt(append(line, `Z","duration":`...), now-r.start, 10)
		line = append(append(line, s.names...), r.text...)
		line = strconv.AppendInt(append(line, `","status":`...), s.status, 10)
		line = strconv.AppendInt(append(line, `,"request_bytes":`...), r.size, 10)
		line = strconv.AppendInt(append(line, `,"response_bytes":`...), s.size, 10)
		output = append(line, '}', '\n')
		out.Write(output) // an error comes back from Flush
		s.waiting, spare = slices.Delete(s.waiting, 0, 1), append(spare, r)
		exchanges++
	}
	s.state, s.size = first, 0
}

func escaped(to, text []byte) []byte {
	for _, b := range text {
		if b < ' ' || b > '~' || b == '"' || b == '\\' {
			to = fmt.Appendf(to, `\u%04x`, b)
		} else {
			to = append(to, b)
		}
	}
	return to
}

func endpointOf(ip net.IP, port layers.TCPPort) (e endpoint) {
	if e.port = uint16(port); len(ip) == 4 {
		e.ip[10], e.ip[11] = 0xff, 0xff
	}
	copy(e.ip[16-len(ip):], ip)
	return
}

func (e endpoint) append(to []byte) []byte {
	return netip.AddrPortFrom(netip.AddrFrom16(e.ip).Unmap(), e.port).AppendTo(to)
}

var firstLayers = map[layers.LinkType]gopacket.LayerType{
	layers.LinkTypeEthernet: layers.LayerTypeEthernet, layers.LinkTypeLinuxSLL: layers.LayerTypeLinuxSLL,
	layers.LinkTypeLinuxSLL2: layers.LayerTypeLinuxSLL2, layers.LinkTypeNull: layers.LayerTypeLoopback,
	layers.LinkTypeLoop: layers.LayerTypeLoopback, layers.LinkTypeRaw: layers.LayerTypeIPv4,
	layers.LinkTypeIPv4: layers.LayerTypeIPv4, layers.LinkTypeIPv6: layers.LayerTypeIPv4,
	12: layers.LayerTypeIPv4, // libpcap's own number for raw IP
}

// run reads packets until the file ends, or until those of before the signal are read.
func run(handle *pcap.Handle, signalled *atomic.Int64) error {
	start, ok := firstLayers[handle.LinkType()]
	if !ok {
		return fmt.Errorf("link type %v is not supported", handle.LinkType())
	}
	var ip4 layers.IPv4
	var ip6 layers.IPv6
	var tcp layers.TCP
	container := gopacket.DecodingLayerContainer(gopacket.DecodingLayerArray(nil)) // searched from the first on
	for _, layer := range []gopacket.DecodingLayer{&layers.Ethernet{}, &ip4, &tcp, &ip6, &layers.LinuxSLL{},
		&layers.LinuxSLL2{}, &layers.Loopback{}, &layers.Dot1Q{}} {
		container = container.Put(layer)
	}
	var parsers [2]*gopacket.DecodingLayerParser // the second for IPv6 without a link layer
	for i, layer := range []gopacket.LayerType{start, layers.LayerTypeIPv6} {
		parsers[i] = gopacket.NewDecodingLayerParser(layer)
		parsers[i].SetDecodingLayerContainer(container)
		parsers[i].IgnoreUnsupported = true
	}
	var decoded []gopacket.LayerType
	for {
		packet, info, err := handle.ZeroCopyReadPacketData()
		end := signalled.Load()
		if now = info.Timestamp.UnixNano(); err == pcap.NextErrorTimeoutExpired && end == 0 {
			continue
		} else if err == io.EOF || end != 0 && (err == pcap.NextErrorTimeoutExpired || now > end) {
			return nil
		} else if err != nil {
			return errors.Join(err, handle.Error())
		}
		if now-swept > idle {
			swept = now
			for _, s := range streams {
				if s.seen < now-idle {
					s.remove()
				}
			}
		}
		parser := parsers[0]
		if start == layers.LayerTypeIPv4 && len(packet) > 0 && packet[0]>>4 == 6 {
			parser = parsers[1]
		}
		err = parser.DecodeLayers(packet, &decoded)
		n := len(decoded)
		if err != nil || n < 2 || decoded[n-1] != layers.LayerTypeTCP {
			continue
		}
		src, dst := ip4.SrcIP, ip4.DstIP
		if decoded[n-2] == layers.LayerTypeIPv6 {
			src, dst = ip6.SrcIP, ip6.DstIP
		}
		segment(endpointOf(src, tcp.SrcPort), endpointOf(dst, tcp.DstPort), &tcp)
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
	to, err := os.Create(*output)
	must(err)
	out = bufio.NewWriterSize(to, 64<<10)
	var signalled atomic.Int64 // when
	var handle *pcap.Handle
	if *file != "" {
		handle, err = pcap.OpenOffline(*file)
		must(err)
	} else {
		inactive, err := pcap.NewInactiveHandle(*device)
		must(err)
		must(errors.Join(inactive.SetSnapLen(262144), inactive.SetPromisc(false),
			inactive.SetTimeout(50*time.Millisecond), inactive.SetBufferSize(16<<20)))
		handle, err = inactive.Activate()
		must(err)
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		go func() {
			<-signals
			signalled.Store(time.Now().UnixNano())
		}()
		fmt.Fprintln(os.Stderr, "capturing")
	}
	broken := run(handle, &signalled)
	must(errors.Join(out.Flush(), to.Close()))
	fmt.Fprintf(os.Stderr, "%d  exchanges\n", exchanges)
	if *device != "" {
		stats, err := handle.Stats()
		must(err)
		fmt.Fprintf(os.Stderr, "%d  packets dropped by kernel\n", stats.PacketsDropped)
	}
	must(broken)
}
