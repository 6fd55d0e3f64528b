// The proxy of the conformance suite as a child process, and bounded waits for scripts.

const { spawn } = require('child_process')

// Settles as `promise` does, or fails after `ms`: every wait here is bounded.
function within (promise, ms, what) {
  let timer = null
  const limit = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${ms} ms`)), ms)
  })
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

class Proxy {
  // Starts `program proxy` in front of a local port; ready once it has printed its address.
  static async start (program, upstream, args = []) {
    const proxy = new Proxy()
    const all = ['proxy', '--upstream', `127.0.0.1:${upstream}`, ...args]
    proxy.child = spawn(program, all, { stdio: ['pipe', 'pipe', 'inherit'] })
    proxy.exit = new Promise((resolve) => proxy.child.once('exit', resolve))
    proxy.child.stdout.setEncoding('utf8')
    const address = new Promise((resolve, reject) => {
      let line = ''
      proxy.child.stdout.on('data', (text) => {
        line += text
        if (line.includes('\n')) resolve(line.slice(0, line.indexOf('\n')))
      })
      proxy.child.once('error', reject)
      proxy.child.once('exit', (code) => reject(new Error(`the proxy ended with ${code}`)))
    })
    proxy.address = await within(address, 20_000, 'the start of the proxy')
    proxy.port = Number(proxy.address.split(':').pop())
    return proxy
  }

  addKey (key) {
    this.child.stdin.write(`key ${key.toString('hex')}\n`)
  }

  // Ends its stdin, which ends it; returns its exit code.
  stop () {
    this.child.stdin.end()
    return within(this.exit, 20_000, 'the end of the proxy')
  }
}

module.exports = { Proxy, within }
