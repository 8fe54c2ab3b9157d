// Node for the shipped capture: early hints, trailers, an upgrade, an early answer, a body without known length.
import http from 'node:http'

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://shop.example')
  if (url.pathname === '/hints') {
    response.writeEarlyHints({ link: '</style.css>; rel=preload' }, () => response.end('with hints\n'))
  } else if (url.pathname === '/trailers') {
    response.writeHead(200, { Trailer: 'X-Checksum' })
    response.write('one\n')
    response.write('two\n')
    response.addTrailers({ 'X-Checksum': '0badcafe' })
    response.end()
  } else if (url.pathname === '/early') {
    response.writeHead(413, { 'Content-Length': 0 })
    response.end()
    request.resume()
  } else {
    let received = 0
    request.on('data', (piece) => { received += piece.length })
    request.on('end', () => response.end(JSON.stringify({ path: url.pathname, received }) + '\n'))
  }
})
server.on('upgrade', (request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
  socket.pipe(socket)
})
server.listen(Number(process.argv[2]), '127.0.0.1')
