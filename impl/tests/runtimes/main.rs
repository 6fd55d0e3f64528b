//! The same tests on tokio, smol and async-std: between two protocols over TCP and in memory, and with `--features
//! js_interop_tests` against Node peers.

#[path = "../node/mod.rs"]
mod node;

mod drops;
mod local;
mod pipe;
mod rt;

#[cfg(feature = "js_interop_tests")]
mod live;

/// A module of tests for each runtime.
macro_rules! on_each_runtime {
    ($($module:ident::$test:ident,)*) => {
        on_each_runtime!(@ on_tokio, OnTokio, $($module::$test,)*);
        on_each_runtime!(@ on_smol, OnSmol, $($module::$test,)*);
        on_each_runtime!(@ on_async_std, OnAsyncStd, $($module::$test,)*);
    };
    (@ $name:ident, $runtime:ident, $($module:ident::$test:ident,)*) => {
        mod $name {
            use crate::rt::{$runtime, Runtime};

            $(
                #[test]
                fn $test() {
                    $runtime::block_on(crate::$module::$test::<$runtime>());
                }
            )*
        }
    };
}

on_each_runtime! {
    local::both_sides_agree_on_keys_and_handshake_hash,
    local::every_message_passes_both_ways,
    local::extensions_keep_their_names,
    local::channels_work_from_many_tasks,
    local::one_task_sends_more_than_the_buffers_hold,
    local::either_side_closes_a_channel,
    local::an_open_is_rejected,
    local::ends_are_clean_and_one_side_can_end_before_the_other,
    local::close_sends_everything_and_ends_with_the_remote,
    local::a_stream_that_breaks_off_is_lost,
    local::a_dropped_protocol_ends_the_stream_for_all,
    local::a_dropped_protocol_sends_what_the_socket_takes,
    local::a_handshake_has_a_time_limit,
    local::a_silent_remote_is_given_up,
    local::keep_alives_keep_a_stream,
    local::close_gives_up_on_a_remote_that_takes_nothing,
    drops::dropped_futures_and_handles_lose_nothing_that_was_accepted,
    drops::a_half_polled_close_or_a_dropped_protocol_harms_nobody,
}

#[cfg(feature = "js_interop_tests")]
mod with_node {
    on_each_runtime! {
        live::both_sides_agree_on_keys_and_handshake_hash,
        live::every_message_passes_both_ways,
        live::extensions_keep_their_names,
        live::either_side_closes_a_channel,
        live::an_open_is_rejected_by_either_side,
        live::either_side_ends_the_stream,
        live::a_reset_is_an_error,
        live::keep_alives_of_both_sides_keep_a_stream,
        live::what_was_accepted_reaches_node_when_futures_are_dropped,
        live::what_was_accepted_reaches_node_when_the_protocol_is_dropped,
    }
}
