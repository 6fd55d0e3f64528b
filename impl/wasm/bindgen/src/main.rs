//! `wasm-bindgen-pinned MODULE.wasm FOLDER`: writes the module and its JavaScript into the folder, as an ES module that
//! a page and Node both load.
//!
//! The command `wasm-bindgen` does the same, but must be installed at exactly the version of the library; this is built
//! from the lock file.

use std::error::Error;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(module), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: wasm-bindgen-pinned MODULE.wasm FOLDER".into());
    };
    Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        // A page finds the module beside the script.
        .omit_default_module_path(false)
        .generate(folder)?;
    Ok(())
}
