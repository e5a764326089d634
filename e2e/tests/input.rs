//! What people and programs send, good and bad, to a whole cluster in one
//! process: `holdfast dev` as it is started by hand.
//!
//! One cluster serves all claims; each is a function of its name. One that
//! fails does not keep the others from being tried, and the test ends with the
//! list of those that failed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "a test from outside; the simulation has no part in it"
)]

#[path = "input/access.rs"]
mod access;
#[path = "input/bodies.rs"]
mod bodies;
#[path = "input/command.rs"]
mod command;
#[path = "input/counting.rs"]
mod counting;
#[path = "input/description.rs"]
mod description;
#[path = "input/names.rs"]
mod names;
#[path = "input/pictures.rs"]
mod pictures;
#[path = "input/ranges.rs"]
mod ranges;
#[path = "input/retries.rs"]
mod retries;
#[path = "input/sizes.rs"]
mod sizes;
#[path = "input/texts.rs"]
mod texts;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use holdfast_e2e::dev::Dev;

/// How long a worker may take on a busy machine.
const SETTLE: Duration = Duration::from_secs(90);

macro_rules! claims {
    ($dev:expr, $failed:expr, $($module:ident { $($name:ident),+ $(,)? })+) => {
        $($(
            let start = Instant::now();
            let result = $module::$name($dev).await;
            let took = start.elapsed().as_secs_f64();
            match result {
                Ok(()) => println!("ok   {took:>5.1} s  {}", stringify!($name)),
                Err(error) => {
                    println!("FAIL {took:>5.1} s  {}: {error:#}", stringify!($name));
                    $failed.push(stringify!($name));
                }
            }
        )+)+
    };
}

#[tokio::test]
async fn what_is_sent_comes_back_and_what_is_wrong_is_refused() -> Result<()> {
    let dev = &Dev::start().await?;
    println!("ready after {:.1} s", dev.ready_after.as_secs_f64());
    let mut failed: Vec<&str> = Vec::new();
    claims!(dev, failed,
        names {
            a_name_that_is_no_plain_name_is_refused,
            a_form_with_such_a_name_is_refused,
            a_unicode_name_comes_back_as_it_was,
            quotes_that_a_browser_escapes_come_back_as_quotes,
            an_upload_without_a_name_says_what_to_do,
            a_form_has_one_file,
        }
        bodies {
            a_body_cut_in_the_middle_leaves_nothing,
            a_form_cut_in_the_middle_leaves_nothing,
            bytes_behind_the_announced_length_are_not_of_the_file,
            a_length_that_is_none_is_refused,
            a_file_above_the_limit_is_refused_before_it_is_sent,
            a_wish_that_cannot_be_understood_is_refused,
        }
        access {
            without_a_good_key_nothing_is_stored_or_told,
            unknown_schemes_are_refused,
            a_key_works_at_once_and_sees_its_own_files_alone,
            a_password_is_asked_for_and_compared,
            a_delete_token_works_once_and_a_wrong_one_never,
        }
        retries {
            a_repeated_idempotency_key_gets_the_first_answer,
            an_idempotency_key_with_another_content_is_refused,
        }
        ranges {
            parts_are_served_as_asked,
            conditions_are_kept,
            a_head_tells_all_but_the_bytes,
        }
        counting {
            one_download_is_one,
            a_ticket_lets_ranges_go_on,
            what_sends_no_bytes_does_not_count,
            an_expired_file_is_refused,
        }
        sizes {
            an_empty_file_comes_back,
            many_small_files_come_back_and_are_listed_once_each,
            forty_megabytes_come_back_from_curl,
        }
        texts {
            compressed_text_comes_back_exactly,
        }
        pictures {
            good_pictures_get_upright_thumbnails,
            bad_pictures_end_as_failed_tasks_with_a_reason,
        }
        description {
            every_route_is_described_and_answers,
            a_request_id_is_echoed,
            the_printed_lines_work,
        }
        command {
            a_file_goes_round_by_the_command,
            the_command_says_by_its_exit_code_what_went_wrong,
            a_backup_is_written_whole_or_not_at_all,
        }
    );
    if !failed.is_empty() {
        bail!("{} failed: {failed:?}\n{}", failed.len(), dev.last_lines());
    }
    Ok(())
}
