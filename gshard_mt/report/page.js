// SPDX-License-Identifier: Apache-2.0
// A click on a column header sorts by it: numbers from the largest, text from A; a second click reverses.
const order = new Intl.Collator("en", {numeric: true}), ranks = ["high", "mid", "low"];
for (const table of document.querySelectorAll("table")) {
  table.tHead.addEventListener("click", event => {
    const head = event.target.closest("button")?.parentElement;
    if (!head) return;
    const isNumber = head.classList.contains("number");
    const first = isNumber ? "descending" : "ascending", other = isNumber ? "ascending" : "descending";
    const sort = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sort);
    const text = row => row.cells[head.cellIndex].textContent;
    const number = row => parseFloat(text(row).replaceAll(",", ""));
    const compareText = (a, b) => ranks.indexOf(a) - ranks.indexOf(b) || order.compare(a, b);
    const sign = sort === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      if (!isNumber) return sign * compareText(text(a), text(b));
      const left = number(a), right = number(b);
      if (isNaN(left) || isNaN(right)) return isNaN(left) - isNaN(right);  // empty cells come last
      return sign * (left - right);
    });
    table.tBodies[0].append(...rows);
  });
}
