"use strict";
(() => {
  const unfold = (element) => {
    for (let one = element; one; one = one.parentElement) {
      if (one.tagName === "DETAILS") one.open = true;
    }
  };
  const target = () => document.getElementById(decodeURIComponent(location.hash.slice(1)));
  // What a search has put away comes back if a link leads there.
  const follow = () => {
    if (words.value && (!target() || target().closest(".without"))) {
      words.value = "";
      look();
    }
    if (!target()) return;
    unfold(target());
    target().scrollIntoView();
  };

  const MOST = 200;
  const search = document.getElementById("search");
  const words = document.getElementById("words");
  const hits = document.getElementById("hits");
  const logs = [...document.querySelectorAll("pre.console")].map((pre) => ({
    pre,
    nodes: [...pre.childNodes],
    lines: null,
    boot: pre.closest(".boot"),
    part: pre.closest("details"),
  }));
  const boots = [...document.querySelectorAll("#boots .boot")];
  let opened = new Set();
  search.hidden = false;

  // The line with all places of what is looked for marked.
  const marked = (number, line, wanted) => {
    const row = document.createElement("span");
    const count = document.createElement("span");
    count.className = "number";
    count.textContent = String(number).padStart(6) + "  ";
    row.append(count);
    const lower = line.toLowerCase();
    let from = 0;
    for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
      const mark = document.createElement("mark");
      mark.textContent = line.slice(at, at + wanted.length);
      row.append(line.slice(from, at), mark);
      from = at + wanted.length;
    }
    row.append(line.slice(from), "\n");
    return row;
  };

  const look = () => {
    const wanted = words.value.toLowerCase();
    const found = new Map();
    let total = 0;
    const open = new Set();
    document.body.classList.toggle("searching", wanted.length >= 2);
    for (const log of logs) log.part.classList.remove("found");
    for (const log of logs) {
      log.pre.classList.remove("found");
      if (wanted.length < 2) {
        log.pre.replaceChildren(...log.nodes);
        continue;
      }
      log.lines ??= log.nodes.map((node) => node.textContent).join("").split("\n");
      const rows = [];
      let count = 0;
      log.lines.forEach((line, index) => {
        if (!line.toLowerCase().includes(wanted)) return;
        count += 1;
        if (count <= MOST) rows.push(marked(Number(log.pre.dataset.from) + index, line, wanted));
      });
      if (count > MOST) rows.push("… and " + (count - MOST) + " more lines");
      if (count === 0) {
        log.pre.replaceChildren(...log.nodes);
        continue;
      }
      log.pre.replaceChildren(...rows);
      log.part.classList.add("found");
      log.pre.classList.add("found");
      total += count;
      found.set(log.boot, (found.get(log.boot) || 0) + count);
      for (let one = log.part; one; one = one.parentElement.closest("details")) open.add(one);
    }
    for (const one of opened) {
      if (!open.has(one)) one.open = false;
    }
    opened = new Set([...open].filter((one) => !one.open || opened.has(one)));
    for (const one of open) one.open = true;
    for (const boot of boots) boot.classList.toggle("without", wanted.length >= 2 && !found.has(boot));
    hits.replaceChildren();
    if (wanted.length < 2) return;
    const many = (count, word) => count + " " + word + (count === 1 ? "" : "s");
    hits.append(total === 0 ? "in no console" : many(total, "line") + " in " + many(found.size, "boot") + ": ");
    for (const [boot, count] of found) {
      const link = document.createElement("a");
      link.href = "#" + boot.id;
      link.textContent = boot.querySelector("b").textContent + " (" + count + ")";
      hits.append(link, " ");
    }
  };
  let later = 0;
  words.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(look, 150);
  });

  addEventListener("hashchange", follow);
  // A link to where one already is changes nothing that is told.
  addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) follow();
  });
  if (location.hash) follow();
})();
