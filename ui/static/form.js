// Controls made from a schema: nothing here knows any method.
// value: {fields: [{name, kind, default, description, choices, minimum, maximum}], values: {name: value}}
(() => {
  const { make } = window.medley;

  window.medley.parts.form = (element, props, trigger, watch) => {
    const take = (name, value) => {
      props.value = { ...props.value, values: { ...props.value.values, [name]: value } };
    };

    const parsed = (text, kind) => {
      if (kind === "integer" || kind === "number") return text === "" ? null : Number(text);
      if (kind === "string") return text;
      try {
        return JSON.parse(text);
      } catch {
        return text;
      }
    };

    const control = (field, id) => {
      const value = props.value.values[field.name] ?? field.default;
      if (field.kind === "boolean") {
        const box = make("input", { type: "checkbox", id, onchange: () => take(field.name, box.checked) });
        box.checked = Boolean(value);
        return box;
      }
      if (field.choices.length) {
        const options = field.choices.map((one) => make("option", { value: JSON.stringify(one) }, one === null ? "default" : String(one)));
        const select = make("select", { id, onchange: () => take(field.name, JSON.parse(select.value)) }, ...options);
        select.value = JSON.stringify(value ?? null);
        return select;
      }
      const numeric = field.kind === "integer" || field.kind === "number";
      const shown = field.kind === "number" && typeof value === "number" ? Number(value.toPrecision(6)) : value; // what is typed is taken whole
      const text = shown === null || shown === undefined ? "" : typeof shown === "object" ? JSON.stringify(shown) : String(shown);
      const input = make("input", {
        id,
        type: numeric ? "number" : "text",
        step: field.kind === "integer" ? 1 : "any",
        min: field.minimum,
        max: field.maximum,
        value: text,
        "aria-describedby": `${id}-help`,
      });
      input.addEventListener("change", () => take(field.name, parsed(input.value, field.kind)));
      return input;
    };

    const range = ({ minimum, maximum }) => {
      const [low, high] = [minimum ?? null, maximum ?? null];
      if (low !== null && high !== null) return `(${low} … ${high})`;
      if (high !== null) return `(up to ${high})`;
      return low !== null ? `(from ${low})` : "";
    };

    const draw = () => {
      const rows = props.value.fields.map((field) => {
        const id = `m-${element.closest("[id]")?.id || "form"}-${field.name}`;
        const help = [field.description, range(field)].filter(Boolean).join(" ");
        return make("div", { class: "m-field" }, make("label", { for: id }, field.name.replaceAll("_", " ")), control(field, id), make("small", { id: `${id}-help` }, help));
      });
      element.querySelector(".m-form").replaceChildren(...(rows.length ? rows : [make("p", { class: "m-note" }, props.value.empty || "No settings of its own.")]));
    };

    element.append(make("div", { class: "m-form" }));
    watch("value", draw);
    draw();
  };
})();
