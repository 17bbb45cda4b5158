// Sorts a table by the column whose head is pressed: numbers by value, blanks last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const value = row => {
      const cell = row.cells[column];
      const raw = cell.dataset.value ?? cell.textContent.trim();
      return raw === "" ? null : Number.isNaN(Number(raw)) ? raw.toLowerCase() : Number(raw);
    };
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b);
        if (x === null || y === null) return (x === null) - (y === null);
        const order = typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? -1 : 1;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}

// Says in words that a table goes on sideways; without scripts a shadow at its edge does.
const hint = box => {
  const wide = box.scrollWidth > box.clientWidth + 1;
  const line = box.nextElementSibling;
  if (line?.className === "hint") line.hidden = !wide;
  else if (wide) {
    const words = Object.assign(document.createElement("p"), {className: "hint"});
    words.textContent = "This table is wider than the page: scroll it sideways →";
    box.after(words);
  }
};
const watch = new ResizeObserver(boxes => boxes.forEach(({target}) => hint(target)));
document.querySelectorAll(".scroll").forEach(box => watch.observe(box));

// Leaves a zoomed figure.
document.addEventListener("keydown", event => {
  if (event.key === "Escape" && location.hash.startsWith("#zoom-"))
    location.hash = location.hash.replace("#zoom-", "#");
});
