"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        const text = cell.dataset.value ?? cell.textContent.trim();
        return head.dataset.by === "number" ? Number.parseFloat(text) : text;
      };
      const rows = [...table.tBodies[0].rows];
      const isNothing = (one) => one === "" || Number.isNaN(one);
      rows.sort((a, b) => {
        const [one, two] = [value(a), value(b)];
        if (isNothing(one) || isNothing(two)) return isNothing(one) - isNothing(two);
        const order = typeof one === "number" ? one - two : one.localeCompare(two, undefined, { numeric: true });
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
