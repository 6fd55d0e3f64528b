//! `wasm-bench-native SIZE WINDOWS`: prints the milliseconds that [`Line::send`] takes on the host, after warming up.

use std::time::Instant;

use wasm_bench::Line;

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).flat_map(|it| it.parse()).collect();
    let [size, windows] = numbers[..] else {
        eprintln!("usage: wasm-bench-native SIZE WINDOWS");
        std::process::exit(2);
    };
    let mut line = Line::new(size);
    line.send(windows / 10 + 1);
    let started = Instant::now();
    line.send(windows);
    println!("{}", started.elapsed().as_secs_f64() * 1000.0);
}
