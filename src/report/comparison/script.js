"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const tip = document.getElementById("tip");

  // Points say what they are in the page's own way; without this script their titles do.
  const points = all("svg .point");
  for (const point of points) {
    const title = point.querySelector("title");
    const said = title.textContent;
    title.remove();
    const show = () => {
      tip.textContent = said;
      tip.hidden = false;
      const mark = point.querySelector("circle").getBoundingClientRect();
      const left = Math.min(mark.right + 6, innerWidth - tip.offsetWidth - 12);
      tip.style.left = Math.max(8, left) + "px";
      tip.style.top = Math.max(8, mark.top - tip.offsetHeight - 6) + "px";
    };
    const hide = () => { tip.hidden = true; };
    point.addEventListener("mouseenter", show);
    point.addEventListener("focus", show);
    point.addEventListener("mouseleave", hide);
    point.addEventListener("blur", hide);
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // A name brings its line out.
  for (const name of all("svg .name")) {
    const others = all(".series, .name", name.ownerSVGElement).filter((g) => g.dataset.series !== name.dataset.series);
    const faint = (on) => () => others.forEach((g) => g.classList.toggle("faint", on));
    name.addEventListener("mouseenter", faint(true));
    name.addEventListener("mouseleave", faint(false));
  }

  // The table: filters and sorting.
  const table = document.getElementById("points");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const filters = all("select[data-filter]");
  const filter = () => rows.forEach((row) => {
    row.hidden = filters.some((f) => f.value !== "" && row.dataset[f.dataset.filter] !== f.value);
  });
  filters.forEach((f) => f.addEventListener("change", filter));
  filter();
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => {
      const [x, y] = [Number(key(a)), Number(key(b))];
      return Number.isNaN(x) || Number.isNaN(y) ? key(a).localeCompare(key(b)) : x - y;
    };
    [...rows].sort((a, b) => (up ? 1 : -1) * order(a, b)).forEach((row) => body.append(row));
  }));

  // The gallery: whose words are marked.
  for (const example of all(".example")) {
    const tokens = all(".token", example);
    const picks = all(".pick", example);
    picks.forEach((pick) => pick.addEventListener("click", () => {
      const kept = new Set();
      for (const range of pick.dataset.kept.split(",").filter(Boolean)) {
        const [first, last = first] = range.split("-").map(Number);
        for (let at = first; at <= last; at++) kept.add(at);
      }
      tokens.forEach((token, at) => token.classList.toggle("kept", kept.has(at)));
      picks.forEach((other) => other.setAttribute("aria-pressed", String(other === pick)));
    }));
  }

  const requests = performance.getEntriesByType("resource").length;
  Object.assign(document.body.dataset, { points: points.length, rows: rows.length, requests, ready: "yes" });
})();
