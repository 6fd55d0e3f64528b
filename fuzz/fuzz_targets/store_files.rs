#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hypercore_fuzz_targets::check("store_files", data));
