// Pictures by id: choose one, take it home. And tables of labelled pictures.
// value: {items: [{id, caption, address, note, size}], columns, rows, selected, veiled}
(() => {
  const { make } = window.medley;

  const figure = (item, selected, pick) => {
    const image = make("img", { src: item.address, alt: item.alt || item.caption, loading: "lazy", class: item.small ? "m-pixel" : "" });
    const caption = make("figcaption", {}, make("span", {}, item.caption), item.note ? make("small", {}, item.note) : null);
    const body = item.id
      ? make("button", { type: "button", class: "m-pick", "aria-pressed": String(item.id === selected), onclick: () => pick(item.id) }, image)
      : image;
    return make("figure", { "data-id": item.id || null }, body, caption);
  };

  window.medley.parts.gallery = (element, props, trigger, watch) => {
    const place = make("div", { class: "m-gallery" });
    const note = make("p", { class: "m-note" });
    element.append(place, note);

    const pick = (id) => {
      const before = props.value.selected ?? null;
      props.value = { ...props.value, selected: id };
      for (const button of place.querySelectorAll(".m-pick")) {
        button.setAttribute("aria-pressed", String(button.closest("figure").dataset.id === id));
      }
      trigger("pick", { id, before });
    };

    const table = (now) => {
      const columns = now.columns;
      const head = make("tr", {}, now.rows ? make("td") : null, ...columns.map((text) => make("th", { scope: "col" }, text)));
      const lines = [];
      for (let start = 0; start < now.items.length; start += columns.length) {
        const cells = now.items.slice(start, start + columns.length).map((item) => make("td", {}, figure(item, now.selected, pick)));
        const label = now.rows ? make("th", { scope: "row" }, now.rows[start / columns.length] ?? "") : null;
        lines.push(make("tr", {}, label, ...cells));
      }
      return make("div", { class: "m-scroll", tabindex: "0", role: "region", "aria-label": "Grid of pictures" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)));
    };

    const draw = () => {
      const now = props.value || { items: [] };
      place.hidden = Boolean(now.veiled);
      note.textContent = now.veiled ? "Hidden until you have voted." : now.items.length ? "" : now.empty || "";
      place.replaceChildren(...(now.columns && now.items.length ? [table(now)] : now.items.map((item) => figure(item, now.selected, pick))));
    };
    watch("value", draw);
    draw();
  };
})();
