//! The matrix: a row for each machine, a column for each way to boot it and what had to be seen.

use std::fmt::Write as _;

use super::boots::machine;
use super::html::Page;
use super::mark;
use super::text::{counted, html};
use crate::nightly::outcome::Outcome;

/// What a column stands for: scenario, method, hypervisor.
fn column(outcome: &Outcome) -> [&str; 3] {
    [&outcome.scenario, &outcome.method, &outcome.hypervisor]
}

/// Those of `of`, each once, in the order in which they come.
fn each<T: PartialEq>(of: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for one in of {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

pub(super) fn section(page: &Page<'_>, text: &mut String) {
    let mut columns = each(page.night.outcomes.iter().map(column));
    // What has the same scenario stands together, in the order in which the plan has them.
    let scenarios = each(columns.iter().map(|[scenario, ..]| *scenario));
    columns.sort_by_key(|[scenario, ..]| scenarios.iter().position(|other| other == scenario));
    let machines = each(page.night.outcomes.iter().map(machine));
    text.push_str("<section id=\"matrix\">\n<h2>Boards and scenarios</h2>\n<p class=\"legend\">");
    for verdict in mark::all() {
        let _ = write!(
            text,
            "<span class=\"{}\"><span class=\"sign\">{}</span> {}</span> ",
            verdict.word(),
            mark::sign(&verdict),
            mark::meaning(&verdict)
        );
    }
    text.push_str(
        "</p>\n<div class=\"scroll\" tabindex=\"0\"><table class=\"matrix\">\n<thead>\n<tr><td rowspan=\"2\"></td>",
    );
    for scenario in scenarios {
        let count = columns.iter().filter(|[other, ..]| *other == scenario).count();
        let _ = write!(text, "<th scope=\"colgroup\" colspan=\"{count}\">{}</th>", html(scenario));
    }
    text.push_str("</tr>\n<tr>");
    for [_, method, hypervisor] in &columns {
        let _ = write!(text, "<th scope=\"col\">{}<br>{}</th>", html(method), html(hypervisor));
    }
    text.push_str("</tr>\n</thead>\n<tbody>\n");
    for name in machines {
        let _ = write!(text, "<tr><th scope=\"row\">{}</th>", html(&name));
        for wanted in &columns {
            let boots: Vec<_> = page
                .boots()
                .filter(|(outcome, _)| machine(outcome) == name && column(outcome) == *wanted)
                .collect();
            text.push_str("<td>");
            for (outcome, id) in &boots {
                let verdict = &outcome.verdict;
                // Only what is not alone in its cell needs to be told apart.
                let more = if boots.len() > 1 { format!(" {}", outcome.cpus) } else { String::new() };
                let _ = write!(
                    text,
                    "<a class=\"cell {}\" href=\"#{id}\" title=\"{}: {}, {}\"><span aria-hidden=\"true\">{}{more}</span>\
                     <span class=\"hidden\">{}</span></a>",
                    verdict.word(),
                    html(&outcome.name),
                    counted(outcome.cpus as usize, "CPU"),
                    mark::meaning(verdict),
                    mark::sign(verdict),
                    mark::meaning(verdict),
                );
            }
            text.push_str("</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>\n<p class=\"none\">A number in a cell is that of the machine's CPUs.</p>\n</section>\n");
}
