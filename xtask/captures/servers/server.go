// Go's net/http for the shipped capture, as a server (serve PORT) and as a client (ask URL).
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	} else {
		ask(os.Args[2])
	}
}

func serve(port string) {
	http.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	http.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(205) })
	http.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		for number := range 4 {
			fmt.Fprintf(w, "line %d\n", number)
			w.(http.Flusher).Flush()
		}
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		size, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Request-Id", "go-1")
		fmt.Fprintf(w, "%s %s: %d\n", r.Method, r.URL.Path, size)
	})
	panic(http.ListenAndServe("127.0.0.1:"+port, nil))
}

func ask(url string) {
	body := func() io.Reader { return struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 5000))} }
	for _, ask := range []struct {
		method, path string
		body         io.Reader
	}{
		{"GET", "/users/42", nil}, {"POST", "/orders", strings.NewReader("one")}, {"PUT", "/files/a", body()},
		{"HEAD", "/", nil}, {"GET", "/stream", nil}, {"DELETE", "/files/a", nil},
	} {
		request, err := http.NewRequest(ask.method, url+ask.path, ask.body)
		if err != nil {
			panic(err)
		}
		request.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
}
