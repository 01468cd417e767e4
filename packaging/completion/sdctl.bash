# bash completion for sdctl(1)
_sdctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local verbs="txt2img img2img inpaint outpaint replay models load unload jobs get cancel status watch api"
	local options="--model --negative --sampler --seed --steps --guidance --strength --clip-skip --width --height
		--count --select --feather --grow --padding --context --fill --color-match --left --right --top --bottom
		--image --mask --output --sheet --preview --preview-every --layer --detach --help"
	local verb= i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case " $verbs " in *" ${COMP_WORDS[i]} "*)
			verb=${COMP_WORDS[i]}
			break
			;;
		esac
	done
	case $previous in
	--fill) COMPREPLY=($(compgen -W "auto blur neutral edge original" -- "$word")) ;;
	--context) COMPREPLY=($(compgen -W "auto selection image" -- "$word")) ;;
	--color-match) COMPREPLY=($(compgen -W "true false" -- "$word")) ;;
	-i | -m | -o | --image | --mask | --output | --sheet | --preview | --socket) COMPREPLY=($(compgen -f -- "$word")) ;;
	*)
		if [ -z "$verb" ]; then
			COMPREPLY=($(compgen -W "$verbs --socket --json --quiet --spawn --inline --help --version" -- "$word"))
		elif [[ $word == -* ]]; then
			COMPREPLY=($(compgen -W "$options" -- "$word"))
		else
			COMPREPLY=($(compgen -f -- "$word"))
		fi
		;;
	esac
}
complete -o filenames -F _sdctl sdctl
