// SPDX-License-Identifier: Apache-2.0
// A click on a head sorts by its column: numbers from the largest, text from A; again, the other way.
const order = new Intl.Collator("en", {numeric: true});
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", event => {
    const head = event.target.closest("button")?.parentElement;
    if (!head) return;
    const isNumber = head.classList.contains("number");
    const first = isNumber ? "descending" : "ascending", other = isNumber ? "ascending" : "descending";
    const sort = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sort);
    const value = row => row.cells[head.cellIndex].dataset.value;
    const compare = isNumber ? (a, b) => a - b : order.compare;
    const sign = sort === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const left = value(a), right = value(b);
      if (left === "" || right === "") return (left === "") - (right === "");
      return sign * compare(left, right);
    });
    table.tBodies[0].append(...rows);
  });
}
