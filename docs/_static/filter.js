// A text field above each table of class "filtered" hides the rows that do not contain its words.
for (const table of document.querySelectorAll("table.filtered")) {
  const field = document.createElement("input");
  field.type = "search";
  field.className = "filter";
  field.placeholder = "Search this table";
  field.setAttribute("aria-label", "Search this table");
  const rows = [...table.querySelectorAll("tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const [row, text] of rows) row.hidden = !words.every((word) => text.includes(word));
  });
  (table.closest(".table-wrapper") ?? table).before(field);
}
