// Node's fetch for the shipped capture.
const url = process.argv[2]
for (const [path, options] of [
  ['/users/7', {}],
  ['/orders', { method: 'POST', body: 'name=Ada' }],
  ['/stream', { method: 'POST', duplex: 'half', body: new Blob(['a'.repeat(3000)]).stream() }],
  ['/hints', {}],
  ['/trailers', { headers: { TE: 'trailers' } }],
]) {
  await (await fetch(url + path, options)).text()
}
