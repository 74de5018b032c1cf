"""``smolvideo completion``: print click's shell completion script."""

import click

from smolvideo.cli.main import debug_option

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@debug_option
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash  eval "$(smolvideo completion bash)"         in ~/.bashrc
    zsh   eval "$(smolvideo completion zsh)"          in ~/.zshrc
    fish  smolvideo completion fish | source          in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "smolvideo", "_SMOLVIDEO_COMPLETE").source())
