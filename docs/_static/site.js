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

// The theme leaves these out, and screen readers and keyboards need them.
for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.setAttribute("aria-level", "2");
for (const [place, label] of [["sidebar", "Pages"], ["toc", "On this page"]])
  document.querySelector(`aside.${place}-drawer`)?.setAttribute("aria-label", label);
for (const box of document.querySelectorAll("pre, .table-wrapper")) box.tabIndex = 0;
if (!document.querySelector("h1")) {
  const heading = document.createElement("h1");
  heading.textContent = document.title.split(" - ")[0];
  document.querySelector("article")?.prepend(heading);
}
