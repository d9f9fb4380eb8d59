// Buttons that copy the visible part of a table: as CSV with unrounded numbers, as Markdown, as LaTeX (booktabs).
(() => {
  "use strict";
  const textOf = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const numbersOf = (cell) => (cell.dataset.numbers ? cell.dataset.numbers.split(";").map(Number) : []);
  const rowsOf = (body) => [...body.rows].filter((row) => !row.classList.contains("page-group"));

  // Return {title, heads, rows} of the visible part. If there are several groups, each row begins with its group.
  function content(table) {
    const heads = [...table.tHead.rows[0].cells];
    const columns = heads.map((head, place) => place).filter((place) => !heads[place].hidden);
    const bodies = [...table.tBodies].filter((body) => !body.hidden);
    const grouped = bodies.some((body) => body.dataset.group);
    const rows = bodies.flatMap((body) => rowsOf(body).filter((row) => !row.matches("[hidden], .tables-out")).map(
      (row) => ({ group: body.dataset.group ?? "", cells: columns.map((column) => row.cells[column]) }),
    ));
    const kind = bodies.some((body) => body.dataset.metric) ? "Metric" : "Network";
    return { heads: columns.map((column) => heads[column]), rows, kind: grouped ? kind : null };
  }

  function csv({ heads, rows, kind }) {
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    // A text that a spreadsheet would read as a formula gets an apostrophe before it, like in the files of tables/.
    const cellText = (text) => (/^'*[=+\-@]/.test(text) && text !== "-" ? `'${text}` : text);
    const counts = heads.map((head, place) => Math.max(0, ...rows.map((row) => numbersOf(row.cells[place]).length)));
    const names = heads.flatMap((head, place) => {
      const parts = head.dataset.parts?.split(";");
      const title = parts ? textOf(head.querySelector(".tables-title") ?? head) : textOf(head);
      return parts && counts[place] > 1 ? parts.map((part) => `${title}, ${part}`) : [title];
    });
    const line = (row) => row.cells.flatMap((cell, place) => {
      if (!counts[place]) return [cellText(textOf(cell))];
      const numbers = numbersOf(cell);
      return Array.from({ length: counts[place] }, (_, part) => String(numbers[part] ?? ""));
    });
    const table = [
      [...(kind ? [kind] : []), ...names.map(cellText)],
      ...rows.map((row) => [...(kind ? [cellText(row.group)] : []), ...line(row)]),
    ];
    return `${table.map((cells) => cells.map(quoted).join(",")).join("\n")}\n`;
  }

  const isNumber = (head) => head.classList.contains("page-number");
  const isBold = (cell) => cell.querySelector("strong") !== null;

  // Return the text of a cell. `power` writes an exponent, since plain text has no superscript.
  function plain(cell, power) {
    const copy = cell.cloneNode(true);
    for (const raised of copy.querySelectorAll("sup")) raised.replaceWith(power(raised.textContent));
    return textOf(copy);
  }

  function markdown({ heads, rows, kind }) {
    const escaped = (text) => text.replace(/[\\`*|<[\]~]|&(?=[#\w]+;)|:(?=\/\/)/g, "\\$&");
    const cellText = (cell) => {
      const text = escaped(plain(cell, (exponent) => `^${exponent}`));
      return isBold(cell) ? `**${text}**` : text;
    };
    const line = (cells) => `| ${cells.join(" | ")} |`;
    const rule = `|${[...(kind ? [":---"] : []), ...heads.map((head) => (isNumber(head) ? "---:" : ":---"))].join("|")}|`;
    return [
      line([...(kind ? [kind] : []), ...heads.map((head) => escaped(textOf(head)))]), rule,
      ...rows.map((row) => line([...(kind ? [escaped(row.group)] : []), ...row.cells.map(cellText)])), "",
    ].join("\n");
  }

  const LATEX = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$",
    "\u2013": "--", "\u00b1": "$\\pm$", "\u2193": "$\\downarrow$", "\u2191": "$\\uparrow$", "\u00d7": "$\\times$",
    "\u2020": "\\dag{}", "\u2212": "$-$", "|": "$|$", "[": "{[}", "]": "{]}", "*": "{*}",
  };

  function latex({ heads, rows, kind }) {
    const escaped = (text) => text.replace(
      /[&%$#_{}\\~^<>|[\]*\u2013\u00b1\u2191\u2193\u00d7\u2020\u2212]/g, (sign) => LATEX[sign] ?? `\\${sign}`,
    );
    const cellText = (cell) => {
      const powers = [];
      const text = escaped(plain(cell, (exponent) => `\u0001${powers.push(exponent) - 1}\u0001`));
      const typeset = text.replace(/\u0001(\d+)\u0001/g, (_, place) => `$^{${(powers[place] ?? "").replace("\u2212", "-")}}$`);
      return isBold(cell) ? `\\textbf{${typeset}}` : typeset;
    };
    const columns = heads.map((head) => (isNumber(head) ? "r" : "l")).join("");
    const body = rows.flatMap((row, place) => {
      const isNew = kind && (place === 0 || rows[place - 1].group !== row.group);
      const title = `\\multicolumn{${heads.length}}{l}{\\textit{${escaped(row.group)}}} \\\\`;
      return [...(isNew ? [...(place ? ["\\midrule"] : []), title] : []), `${row.cells.map(cellText).join(" & ")} \\\\`];
    });
    return [
      `\\begin{tabular}{${columns}}`, "\\toprule", `${heads.map((head) => escaped(textOf(head))).join(" & ")} \\\\`,
      "\\midrule", ...body, "\\bottomrule", "\\end{tabular}", "",
    ].join("\n");
  }

  function copyButtons(tables) {
    const group = document.createElement("span");
    group.className = "tables-copy";
    group.append("Copy as");
    for (const [name, write] of [["CSV", csv], ["Markdown", markdown], ["LaTeX", latex]]) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
      button.setAttribute("aria-label", `Copy the table as ${name}`);
      button.addEventListener("click", () => {
        const shown = content(tables.find((table) => !table.closest("[hidden]")) ?? tables[0]);
        const detail = { text: write(shown), message: `Copied ${shown.rows.length} rows as ${name}` };
        button.dispatchEvent(new CustomEvent("pagecopy", { detail, bubbles: true }));
      });
      group.append(button);
    }
    return group;
  }

  for (const block of document.querySelectorAll(".tables-block")) {
    const tables = [...block.querySelectorAll("table")];
    if (tables.length) block.querySelector(".page-tools").append(copyButtons(tables));
  }
})();
