"use strict";
// A click on a header sorts by it, the better end first; undefined values stay last.
for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => {
    const header = button.parentElement;
    const body = header.closest("table").tBodies[0];
    const column = header.cellIndex;
    const before = header.getAttribute("aria-sort");
    const order = before ? (before === "ascending" ? "descending" : "ascending") : header.dataset.first;
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const compare = (one, two) => {
      const a = one.cells[column].dataset.value, b = two.cells[column].dataset.value;
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (header.dataset.kind === "text" ? a.localeCompare(b) : Number(a) - Number(b));
    };
    for (const row of [...body.rows].sort(compare)) body.append(row);
  });
}
// A click on a method shows it alone in colour, in every chart and table; a second click shows all again.
for (const button of document.querySelectorAll("button[data-focus]")) {
  button.addEventListener("click", () => {
    const wanted = button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.focus;
    for (const other of document.querySelectorAll("button[data-focus]")) {
      other.setAttribute("aria-pressed", String(other.dataset.focus === wanted));
    }
    for (const drawn of document.querySelectorAll(".s")) drawn.classList.toggle("on", drawn.classList.contains(wanted || "-"));
    if (wanted) document.body.dataset.focus = wanted; else delete document.body.dataset.focus;
  });
}
