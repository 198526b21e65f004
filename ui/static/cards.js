// The grid of LoRAs: search, filter, and one press to add or take away.
// value: {cards: [{name, handle, title, category, family, triggers, weight, rank, picture}], family}
(() => {
  const { make, parted, tell, hear, says } = window.medley;
  const MOST = 240; // shown at once; the search finds the others

  window.medley.parts.cards = (element, props, trigger, watch) => {
    let chosen = new Set();
    let category = "";
    let sort = "given";

    const search = make("input", {
      type: "search",
      placeholder: "Search by name, trigger word or title",
      "aria-label": "Search LoRAs",
      oninput: () => draw(),
    });
    const sorting = make(
      "select",
      { "aria-label": "Order of the LoRAs", onchange: () => ((sort = sorting.value), draw()) },
      ...[["given", "Zoo order"], ["name", "By name"], ["rank", "By rank"]].map(([value, text]) => make("option", { value }, text))
    );
    const filters = make("div", { class: "m-chips", role: "group", "aria-label": "Category" });
    const grid = make("ul", { class: "m-grid", tabindex: "0", "aria-label": "LoRAs" });
    const note = make("p", { class: "m-note", role: "status" });
    element.append(make("div", { class: "m-bar" }, search, sorting), filters, grid, note);

    const chip = (text, value) =>
      make("button", { type: "button", class: "m-chip", "aria-pressed": String(category === value), onclick: () => ((category = value), draw()) }, text);

    const fits = (card) => !props.value.family || !card.family || card.family === props.value.family;

    const found = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const text = (card) => [card.name, card.title, card.category, ...card.triggers].join(" ");
      const rows = props.value.cards.filter(
        (card) => fits(card) && (!category || (card.category || "other") === category) && words.every((word) => says(text(card), word))
      );
      if (sort === "name") rows.sort((a, b) => a.name.localeCompare(b.name));
      if (sort === "rank") rows.sort((a, b) => b.rank - a.rank);
      return rows;
    };

    const drawCard = (card) => {
      const on = chosen.has(card.handle);
      const picture = card.picture
        ? make("img", { src: card.picture, alt: "", loading: "lazy", width: 96, height: 96 })
        : make("span", { class: "m-blank", "aria-hidden": "true" }, card.name.slice(0, 2));
      const facts = [card.category || card.family, `weight ${card.weight}`].filter(Boolean).join(" · ");
      const button = make(
        "button",
        {
          type: "button",
          class: "m-card",
          "aria-pressed": String(on),
          title: `${card.title || card.name}\n${card.family}, rank ${card.rank}, preferred weight ${card.weight}`,
          onclick: () => tell("toggle", card),
        },
        picture,
        make("span", { class: "m-name" }, ...parted(card.name)),
        make("span", { class: "m-facts" }, facts),
        make("span", { class: "m-words" }, card.triggers.join(", "))
      );
      return make("li", {}, button);
    };

    const draw = () => {
      const kinds = [...new Set(props.value.cards.filter(fits).map((card) => card.category || "other"))];
      filters.replaceChildren(chip("all", ""), ...kinds.map((kind) => chip(kind, kind)));
      const rows = found();
      grid.replaceChildren(...rows.slice(0, MOST).map(drawCard));
      const hidden = props.value.cards.length - props.value.cards.filter(fits).length;
      const parts = [];
      if (!props.value.cards.length) parts.push("The zoo is empty: add LoRAs in the Zoo tab.");
      else if (!rows.length) parts.push("No LoRA matches. Clear the search or choose another category.");
      if (rows.length > MOST) parts.push(`${rows.length - MOST} more match; search to narrow them down.`);
      if (hidden) parts.push(`${hidden} LoRAs of other model families are hidden.`);
      note.textContent = parts.join(" ");
    };

    hear("chosen", (uses) => {
      chosen = new Set(uses.map((use) => use.name));
      draw();
    });
    watch("value", draw);
    draw();
    tell("cards-ready");
  };
})();
