//! The elements of a world, drawn from its seed. Any element except the writer can be left out, which is how a failing
//! world is shrunk.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::liar::Lie;
use super::link::{LinkFault, LinkOptions};
use super::random::Random;
use super::store::StoreFault;

/// The writer is the first peer of every world.
pub(crate) const WRITER: usize = 0;

/// After this time no link breaks, stores have no transient faults, and nothing is truncated or cleared any more.
pub(crate) const CALM: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Holds everything that it can get.
    Seeder,
    /// Holds what it requests.
    Reader,
    Liar(Lie),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Get(u64),
    Blocks(u64, u64),
    /// A byte, in thousandths of the writer's core at that time.
    Seek(u64),
    Update,
    Length(u64),
}

#[derive(Debug, Clone)]
pub(crate) enum Element {
    Peer {
        peer: usize,
        role: Role,
        /// The interval between its actions.
        slow: Option<Duration>,
    },
    Link {
        link: usize,
        dialler: usize,
        accepter: usize,
        options: LinkOptions,
    },
    Append {
        at: Duration,
        sizes: Vec<usize>,
    },
    /// To a length in thousandths of the current one.
    Truncate {
        at: Duration,
        keep: u64,
    },
    /// A number of blocks, from a position in thousandths of the length, at the writer or a reader.
    Clear {
        at: Duration,
        peer: usize,
        from: u64,
        count: u64,
    },
    Want {
        at: Duration,
        peer: usize,
        want: Want,
    },
    LinkFault {
        at: Duration,
        link: usize,
        fault: LinkFault,
    },
    StoreFault {
        at: Duration,
        peer: usize,
        fault: StoreFault,
    },
    Crash {
        at: Duration,
        peer: usize,
        down: Duration,
        power: bool,
    },
}

/// A world.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Whether it has the handshake and encryption, or neither.
    pub(crate) is_encrypted: bool,
    /// A core as made by Node 10.
    pub(crate) is_compat: bool,
    pub(crate) elements: Vec<Element>,
    pub(crate) without: BTreeSet<usize>,
}

/// A seed, and the left-out elements of its world: the arguments to repeat a world.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        for (at, element) in self.without.iter().enumerate() {
            write!(f, "{}{element}", if at == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

fn millis(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.between(from, to))
}

fn calm_ms() -> u64 {
    u64::try_from(CALM.as_millis()).expect("seconds")
}

impl Plan {
    pub(crate) fn new(seed: u64, lies: &[Lie]) -> Self {
        let mut random = Random::new(seed, 0);
        let random = &mut random;
        let mut elements = Vec::new();
        // Few worlds are big.
        let peers = usize::try_from(match random.below(20) {
            0 => random.between(9, 20),
            1..=6 => random.between(5, 8),
            _ => random.between(2, 5),
        })
        .expect("a count");
        let is_hostile = random.below(3) > 0;
        let mut roles = vec![Role::Seeder];
        for peer in 1..peers {
            let role = match random.below(6) {
                0..=1 => Role::Seeder,
                2..=3 => Role::Reader,
                _ if is_hostile && peer > 1 => {
                    match random.of(if lies.len() < 5 && !lies.is_empty() {
                        lies
                    } else {
                        &Lie::ALL
                    }) {
                        lie if lies.contains(&lie) => Role::Liar(lie),
                        _ => Role::Reader,
                    }
                }
                _ => Role::Reader,
            };
            roles.push(role);
        }
        for (peer, role) in roles.iter().enumerate().skip(1) {
            let is_slow = !matches!(role, Role::Liar(_)) && random.one_in(8);
            let slow = is_slow.then(|| millis(random, 20, 600));
            let role = *role;
            elements.push(Element::Peer { peer, role, slow });
        }
        let links = Self::links(&roles, random, &mut elements);
        Self::operations(&roles, random, &mut elements);
        Self::faults(&roles, links, random, &mut elements);
        Self {
            seed,
            is_encrypted: random.one_in(12),
            is_compat: random.one_in(4),
            elements,
            without: BTreeSet::new(),
        }
    }

    /// Each seeder is linked with an earlier seeder, so that all are connected with the writer; each reader with a
    /// seeder; liars with anybody.
    fn links(roles: &[Role], random: &mut Random, elements: &mut Vec<Element>) -> usize {
        let is_full = |peer: &usize| roles[*peer] == Role::Seeder;
        let mut ends: Vec<(usize, usize)> = Vec::new();
        for (peer, role) in roles.iter().enumerate().skip(1) {
            let full: Vec<usize> = match role {
                Role::Seeder => (0..peer).filter(is_full).collect(),
                Role::Reader => (0..roles.len()).filter(is_full).collect(),
                Role::Liar(_) => {
                    let honest = |peer: &usize| !matches!(roles[*peer], Role::Liar(_));
                    (0..roles.len()).filter(honest).collect()
                }
            };
            ends.push((peer, random.of(&full)));
            let more = if matches!(role, Role::Liar(_)) { 3 } else { 2 };
            for _ in 0..random.below(more) {
                let honest: Vec<usize> = (0..roles.len())
                    .filter(|other| *other != peer && !matches!(roles[*other], Role::Liar(_)))
                    .collect();
                ends.push((peer, random.of(&honest)));
            }
        }
        for (link, (one, other)) in ends.iter().enumerate() {
            let (dialler, accepter) = if random.one_in(2) {
                (*one, *other)
            } else {
                (*other, *one)
            };
            let options = LinkOptions {
                latency: millis(random, 1, 200),
                jitter: millis(random, 0, 50),
                capacity: usize::try_from(random.of(&[1024, 4096, 16_384])).expect("bytes"),
                piece: usize::try_from(random.of(&[64, 512, 16_384, 16_384])).expect("bytes"),
            };
            elements.push(Element::Link {
                link,
                dialler,
                accepter,
                options,
            });
        }
        ends.len()
    }

    fn operations(roles: &[Role], random: &mut Random, elements: &mut Vec<Element>) {
        let size = |random: &mut Random| {
            let most = random.of(&[0, 8, 100, 100, 100, 1500]);
            usize::try_from(random.between(0, most)).expect("bytes")
        };
        let mut blocks = 0;
        for append in 0..random.between(1, 7) {
            let most = if random.one_in(8) { 40 } else { 8 };
            let count = random.between(1, most);
            blocks += count;
            elements.push(Element::Append {
                at: if append == 0 {
                    Duration::ZERO
                } else {
                    millis(random, 0, calm_ms())
                },
                sizes: (0..count).map(|_| size(random)).collect(),
            });
        }
        let truncates = random.one_in(4);
        if truncates {
            for _ in 0..random.between(1, 2) {
                elements.push(Element::Truncate {
                    at: millis(random, 100, calm_ms()),
                    keep: random.below(1001),
                });
            }
        }
        for (peer, role) in roles.iter().enumerate() {
            // The start of another fork is only requested from peers that hold the blocks there, as in Node: if a
            // writer has cleared them, its next fork cannot be learned from it.
            let may_clear = !matches!(role, Role::Liar(_)) && (!truncates || peer != WRITER);
            if random.one_in(6) && may_clear {
                elements.push(Element::Clear {
                    at: millis(random, 100, calm_ms()),
                    peer,
                    from: random.below(1000),
                    count: random.between(1, 5),
                });
            }
            if *role != Role::Reader {
                continue;
            }
            for _ in 0..random.between(1, 4) {
                let want = match random.below(8) {
                    0..=3 => Want::Get(random.below(blocks + 2)),
                    4 => {
                        let start = random.below(blocks);
                        Want::Blocks(start, start + random.between(1, blocks))
                    }
                    5 => Want::Seek(random.below(1001)),
                    6 => Want::Update,
                    _ => Want::Length(random.between(1, blocks)),
                };
                elements.push(Element::Want {
                    at: millis(random, 0, calm_ms()),
                    peer,
                    want,
                });
            }
        }
    }

    fn faults(roles: &[Role], links: usize, random: &mut Random, elements: &mut Vec<Element>) {
        if links > 0 && random.one_in(2) {
            for _ in 0..random.between(1, 4) {
                let fault = match random.below(5) {
                    0..=1 => LinkFault::Reset,
                    2..=3 => LinkFault::Stall(millis(random, 100, 15_000)),
                    _ => LinkFault::HalfClose,
                };
                elements.push(Element::LinkFault {
                    at: millis(random, 0, calm_ms()),
                    link: usize::try_from(random.below(links as u64)).expect("an index"),
                    fault,
                });
            }
        }
        for (peer, role) in roles.iter().enumerate() {
            if matches!(role, Role::Liar(_)) {
                continue;
            }
            if random.one_in(12) {
                // The writer's store always recovers, since the invariants depend on it.
                let lasts = peer != WRITER && random.one_in(4);
                elements.push(Element::StoreFault {
                    at: millis(random, 0, calm_ms()),
                    peer,
                    fault: StoreFault {
                        after: random.below(40),
                        count: (!lasts).then(|| random.between(1, 5)),
                        reads: random.one_in(2),
                    },
                });
            }
            if random.one_in(12) {
                elements.push(Element::Crash {
                    at: millis(random, 100, calm_ms()),
                    peer,
                    down: millis(random, 10, 5000),
                    power: random.one_in(2),
                });
            }
        }
    }

    pub(crate) fn kept(&self) -> impl Iterator<Item = (usize, &Element)> {
        let elements = self.elements.iter().enumerate();
        elements.filter(|(at, _)| !self.without.contains(at))
    }
}
