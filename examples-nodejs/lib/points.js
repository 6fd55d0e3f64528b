// Points that libsodium's Ed25519 scalar multiplication refuses, made with libsodium itself.

const b4a = require('b4a')
const sodium = require('sodium-native')

const hex = (b) => b4a.toString(b, 'hex')
const zeros = (n) => '00'.repeat(n)
const ones = (n) => 'ff'.repeat(n)

function add (p, q) {
  const out = b4a.alloc(32)
  sodium.crypto_core_ed25519_add(out, b4a.from(p, 'hex'), b4a.from(q, 'hex'))
  return hex(out)
}

const IDENTITY = '01' + zeros(31)

// A point of order 8; its multiples are the whole torsion subgroup.
const ORDER_8 = 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'

const torsion = []
for (let i = 0, p = ORDER_8; i < 8; i++, p = add(p, ORDER_8)) torsion.push(p)

// The eight canonical small-order points.
const ORDERS = [8, 4, 8, 2, 8, 4, 8, 1]
const smallOrder = torsion.map((point, i) => ({ slug: i === 7 ? 'identity' : `order-${ORDERS[i]}-${i + 1}`, order: ORDERS[i], multiple: i + 1, point }))

// Small-order points in encodings that are not canonical: y not reduced, or a sign where x is 0.
const nonCanonicalSmallOrder = [
  { slug: 'zero-as-p', point: 'ed' + ones(30) + '7f', what: 'y = p, which is 0, a point of order 4' },
  { slug: 'zero-as-p-signed', point: 'ed' + ones(31), what: 'y = p with the sign bit, a point of order 4' },
  { slug: 'one-as-p-plus-1', point: 'ee' + ones(30) + '7f', what: 'y = p+1, which is 1, the identity' },
  { slug: 'one-as-p-plus-1-signed', point: 'ee' + ones(31), what: 'y = p+1 with the sign bit, the identity' },
  { slug: 'identity-signed', point: '01' + zeros(30) + '80', what: 'y = 1 with a sign bit where x is 0, the identity' },
  { slug: 'order-2-signed', point: 'ec' + ones(31), what: 'y = -1 with a sign bit where x is 0, the point of order 2' }
]

function onCurve (point) {
  try {
    add(point, IDENTITY)
    return true
  } catch {
    return false
  }
}

// y = p+2 … p+18, both signs: those on the curve also have a canonical encoding.
const nonCanonical = []
const notOnCurve = []
for (let k = 2; k <= 18; k++) {
  for (const sign of [0, 0x80]) {
    const canonical = k.toString(16).padStart(2, '0') + zeros(30) + sign.toString(16).padStart(2, '0')
    const slug = `p-plus-${k}${sign ? '-signed' : ''}`
    if (onCurve(canonical)) nonCanonical.push({ slug, point: (0xed + k).toString(16) + ones(30) + (0x7f | sign).toString(16), what: `y = p+${k}${sign ? ' with the sign bit' : ''}`, canonical })
    else notOnCurve.push({ slug: `y-${k}${sign ? '-signed' : ''}`, point: canonical, what: `y = ${k}${sign ? ' with the sign bit' : ''}` })
  }
}

module.exports = { smallOrder, nonCanonicalSmallOrder, nonCanonical, notOnCurve, add, IDENTITY }
