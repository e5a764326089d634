//! The cases, in the order in which they run.

mod basics;
mod carriers;
mod losses;
mod scale;

use futures_util::future::LocalBoxFuture;

use anyhow::Result;

use crate::Level;
use crate::stack::Stack;

/// A claim about the stack, and how it is shown.
pub struct Case {
    /// The claim.
    pub name: &'static str,
    /// From which level on it runs.
    pub level: Level,
    /// Shows it.
    pub run: for<'a> fn(&'a Stack, Level) -> LocalBoxFuture<'a, Result<()>>,
}

macro_rules! case {
    ($level:ident, $module:ident :: $name:ident) => {
        Case {
            name: stringify!($name),
            level: Level::$level,
            run: |stack, level| Box::pin($module::$name(stack, level)),
        }
    };
}

/// All of them.
pub fn all() -> Vec<Case> {
    vec![
        case!(Core, basics::the_lines_of_the_readme_work),
        case!(Core, basics::files_of_every_size_come_back_byte_for_byte),
        case!(Core, basics::pictures_get_thumbnails),
        case!(Core, basics::nothing_is_open_without_a_credential),
        case!(
            Core,
            basics::processes_are_unprivileged_and_write_to_volumes_alone
        ),
        case!(Core, scale::a_limit_holds_over_two_gateways),
        case!(Core, scale::five_workers_share_the_tasks),
        case!(Core, losses::everything_downloads_with_one_node_killed),
        case!(Core, losses::without_a_majority_nothing_stale_is_served),
        case!(
            Core,
            carriers::uploads_go_on_while_rabbitmq_and_redis_are_wiped
        ),
        case!(
            Core,
            losses::what_was_acknowledged_survives_killing_everything
        ),
        case!(
            Full,
            losses::an_ordinary_restart_of_everything_keeps_everything
        ),
        case!(Full, basics::ten_thousand_small_files_with_unicode_names),
    ]
}
